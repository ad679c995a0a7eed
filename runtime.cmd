@echo off
rem Runs a command in the worker's Python environment, which is set up first if need be: runtime.cmd python -V
setlocal EnableExtensions DisableDelayedExpansion
set "runtime=%~dp0runtime"
if defined AIWORKER_RUNTIME_DIR set "runtime=%AIWORKER_RUNTIME_DIR%"
if not "%~1"=="" goto prepare
echo Usage: runtime.cmd COMMAND [ARGUMENTS], for example: runtime.cmd python -V 1>&2
exit /b 2

:prepare
if exist "%runtime%\worker\Scripts\python.exe" goto start
call "%~dp0update-runtime.cmd" 1>&2
if errorlevel 1 exit /b 1

:start
set "PYTHONHOME="
set "PYTHONPATH="
set "VIRTUAL_ENV=%runtime%\worker"
set "PATH=%runtime%\worker\Scripts;%PATH%"
%*
exit /b %errorlevel%
