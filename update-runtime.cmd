@echo off
rem Sets up what the worker needs, or repairs and updates it. All options: update-runtime.cmd --help
rem The Python is PYTHON if that is set, else the first of a list, else one that is fetched into the runtime folder.
setlocal EnableExtensions DisableDelayedExpansion
rem Messages name the commands as they were typed: worker/as_typed.py.
if not defined HORDE_BRIDGE_LAUNCHER set "HORDE_BRIDGE_LAUNCHER=horde-bridge.cmd"
set "managed=3.11"
if not exist "%~dp0worker\engine\install\__main__.py" goto alone
set "runtime=%~dp0runtime"
if defined AIWORKER_RUNTIME_DIR set "runtime=%AIWORKER_RUNTIME_DIR%"
set "is_of_use=import sys, bz2, ctypes, lzma, sqlite3, ssl, sysconfig; sys.exit(not ((3, 10) <= sys.version_info[:2] <= (3, 13) and sys.maxsize > 2**32 and sys.implementation.name == 'cpython' and not sysconfig.get_config_var('Py_GIL_DISABLED')))"
rem One line, since a batch file can't hand over more. The dot after %~dp0 keeps its last backslash from the quote.
set "install=import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('worker.engine.install', run_name='__main__', alter_sys=True)"

rem torch-directml has no build for 3.13.
for %%a in (%*) do if "%%~a"=="--directml" set "is_of_use=import sys, bz2, ctypes, lzma, sqlite3, ssl, sysconfig; sys.exit(not ((3, 10) <= sys.version_info[:2] <= (3, 12) and sys.maxsize > 2**32 and sys.implementation.name == 'cpython' and not sysconfig.get_config_var('Py_GIL_DISABLED')))"

if defined PYTHON goto named

for %%v in (3.11 3.12 3.13 3.10) do (
    py -%%v -I -c "%is_of_use%" >nul 2>&1
    if not errorlevel 1 (
        set "version=%%v"
        goto launcher
    )
)
for %%p in (python.exe python3.exe) do (
    %%p -I -c "%is_of_use%" >nul 2>&1
    if not errorlevel 1 (
        set "PYTHON=%%p"
        goto found
    )
)
for /d %%d in ("%runtime%\python\cpython-*") do (
    "%%d\python.exe" -I -c "%is_of_use%" >nul 2>&1
    if not errorlevel 1 (
        set "PYTHON=%%d\python.exe"
        goto found
    )
)
for %%a in (%*) do (
    if "%%~a"=="--check" goto only_asked
    if "%%~a"=="--help" goto only_asked
)

echo There is no Python 3.10 to 3.13 here: fetching Python %managed% into "%runtime%" ^(35 MB^) ... 1>&2
if not exist "%runtime%" mkdir "%runtime%"
type nul >>"%runtime%\.lock"
call "%~dp0worker\engine\install\fetch-uv.cmd" "%runtime%" >nul
if errorlevel 1 goto no_python
for /d %%d in ("%runtime%\uv-*") do set "uv=%%d\uv.exe"
rem Of your settings for uv only the way to the network counts; these would forbid what follows.
for %%v in (CONFIG_FILE ENV_FILE MANAGED_PYTHON NO_CACHE NO_MANAGED_PYTHON PROJECT PYTHON_DOWNLOADS PYTHON_PREFERENCE WORKING_DIR) do set "UV_%%v="
set "UV_PYTHON_INSTALL_DIR=%runtime%\python"
if not defined UV_CACHE_DIR set "UV_CACHE_DIR=%runtime%\cache"
set "UV_PYTHON_INSTALL_BIN=0"
set "UV_PYTHON_INSTALL_REGISTRY=0"
if defined AIWORKER_WHEELS if exist "%AIWORKER_WHEELS%\python" set "UV_PYTHON_INSTALL_MIRROR=file:///%AIWORKER_WHEELS:\=/%/python"
"%uv%" --no-config --system-certs python install --managed-python %managed% 1>&2
if errorlevel 1 goto no_python
for /d %%d in ("%runtime%\python\cpython-%managed%.*") do set "PYTHON=%%d\python.exe"
if defined PYTHON goto found

:no_python
echo ERROR: Python %managed% could not be fetched; the lines above say why. 1>&2
echo        The network must let through https://github.com, or set UV_PYTHON_INSTALL_MIRROR to a mirror of 1>&2
echo        https://github.com/astral-sh/python-build-standalone/releases/download. 1>&2
echo        Or install Python 3.12 from python.org (64-bit, with the launcher "py"), open a new window and try again, 1>&2
echo        or set PYTHON to the full path of a python.exe. 1>&2
set "code=1"
goto stay

:only_asked
echo worker: not there yet; there is no Python 3.10 to 3.13, and update-runtime will fetch one.
exit /b 1

:alone
echo ERROR: This script is of no use alone: "%~f0" has no folder "worker" beside it. 1>&2
echo        Unpack the whole archive ^(to open it in the Explorer is not enough^), and start it there. 1>&2
rem A window that a double click has opened can be read so; fails at once where there is none.
if not defined CI timeout.exe /t 30 2>nul
exit /b 1

:launcher
py -%version% -I -c "%install%" "%~dp0." %*
set "code=%errorlevel%"
goto stay

:named
"%PYTHON%" -I -c "%is_of_use%" >nul 2>&1
if not errorlevel 1 goto found
echo ERROR: PYTHON is %PYTHON%, which is no 64-bit Python 3.10 to 3.13. 1>&2
set "code=1"
goto stay

:found
"%PYTHON%" -I -c "%install%" "%~dp0." %*
set "code=%errorlevel%"

:stay
if not defined HORDE_BRIDGE_CALLER call "%~dp0worker\engine\install\stay-open.cmd"
exit /b %code%
