@echo off
rem horde-bridge.cmd for cards that only DirectML can use.
setlocal EnableExtensions DisableDelayedExpansion
set "HORDE_BRIDGE_LAUNCHER=horde-bridge-directml.cmd"
rem Help needs no set-up.
for %%a in (%*) do if "%%~a"=="--help" goto start
call "%~dp0update-runtime-directml.cmd" --check >nul 2>&1
if not errorlevel 1 goto start
call "%~dp0update-runtime-directml.cmd" 1>&2
if errorlevel 1 exit /b 1

:start
call "%~dp0horde-bridge.cmd" %*
exit /b %errorlevel%
