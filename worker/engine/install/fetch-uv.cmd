@echo off
rem Puts the pinned uv into FOLDER\uv-VERSION and prints its path: fetch-uv.cmd FOLDER
rem Needs curl.exe, tar.exe and certutil.exe, which Windows 10 and 11 have. AIWORKER_WHEELS names a folder to take the
rem wheel from, UV_DOWNLOAD_URL another address of the wheel.
setlocal EnableExtensions DisableDelayedExpansion
set "folder=%~1"
set "system=windows-x86_64"
if /i "%PROCESSOR_ARCHITECTURE%"=="ARM64" set "system=windows-arm64"
set "row="
set "version="
for /f "usebackq tokens=1-5" %%a in ("%~dp0..\lock\uv.txt") do if "%%a"=="%system%" set "row=%%b %%c %%d %%e"
for /f "tokens=1-4" %%a in ("%row%") do set "version=%%a" & set "address=%%b" & set "sha256=%%c" & set "size=%%d"
if defined version goto place
echo ERROR: worker\engine\lock\uv.txt does not name %system%. Get the whole folder again. 1>&2
exit /b 1

:place
set "place=%folder%\uv-%version%"
set "target=%place%\uv.exe"
if exist "%target%" goto found
if not exist "%place%" mkdir "%place%" 2>nul
if exist "%place%" goto prepare
echo ERROR: "%place%" can't be made. Set AIWORKER_RUNTIME_DIR to a folder of yours, with a short path. 1>&2
exit /b 1

:prepare
for %%f in ("%address:/=\%") do set "name=%%~nxf"
set "wheel=%place%\%name%.part"
set "url=https://files.pythonhosted.org/packages/%address%"
if defined UV_DOWNLOAD_URL set "url=%UV_DOWNLOAD_URL%"
set /a megabytes=%size% / 1000000
echo Fetching uv %version%, which installs everything else ^(%megabytes% MB^) ... 1>&2
set "attempt=0"

:try
call :check
if not errorlevel 1 goto unpack
set /a attempt+=1
if %attempt% gtr 3 goto failed
if not defined AIWORKER_WHEELS goto download
if not exist "%AIWORKER_WHEELS%\%name%" goto download
copy /b /y "%AIWORKER_WHEELS%\%name%" "%wheel%" >nul
goto try

:download
rem What is as long as the whole and not it can't be gone on with.
for %%f in ("%wheel%") do if exist "%wheel%" if %%~zf geq %size% del "%wheel%"
curl.exe --fail --location --progress-bar --connect-timeout 20 --speed-limit 1000 --speed-time 60 --retry 2 --continue-at - --output "%wheel%" "%url%" 1>&2
set "code=%errorlevel%"
goto try

:failed
echo ERROR: uv %version% could not be downloaded, or is not the file that was pinned (curl: exit %code%). 1>&2
echo        The network must let through https://files.pythonhosted.org and https://pypi.org. 1>&2
echo        A proxy: set HTTPS_PROXY=http://HOST:PORT   another address of the file: set UV_DOWNLOAD_URL=ADDRESS 1>&2
echo        No network at all: see "Without a network" in docs\update.md. A virus scanner may have taken the file away. 1>&2
exit /b 1

:unpack
rem A wheel is a zip file. tar.exe of Windows unpacks those; it takes a relative name, since a colon means a host to it.
pushd "%place%" || exit /b 1
tar.exe -xf "%name%.part" "uv-%version%.data/scripts/uv.exe" 1>&2
if not errorlevel 1 move /y "uv-%version%.data\scripts\uv.exe" uv.exe >nul
if exist "uv-%version%.data" rmdir /s /q "uv-%version%.data"
popd
if exist "%target%" goto clean
echo ERROR: "%target%" can't be written. Check the free disk and whether a virus scanner removed it. 1>&2
exit /b 1

:clean
del "%wheel%" 2>nul

:found
echo %target%
exit /b 0

:check
rem Whether the wheel is whole: errorlevel 0 if it is.
if not exist "%wheel%" exit /b 1
set "sum="
for /f "skip=1 delims=" %%s in ('certutil -hashfile "%wheel%" SHA256 2^>nul') do if not defined sum set "sum=%%s"
if not defined sum exit /b 1
if /i "%sum: =%"=="%sha256%" exit /b 0
exit /b 1
