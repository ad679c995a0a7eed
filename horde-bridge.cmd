@echo off
rem Starts the worker; sets it up first if anything is missing or outdated. Options: horde-bridge.cmd --help
setlocal EnableExtensions DisableDelayedExpansion
rem Messages name the commands as they were typed: worker/as_typed.py.
if not defined HORDE_BRIDGE_LAUNCHER set "HORDE_BRIDGE_LAUNCHER=horde-bridge.cmd"
set "install=import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('worker.engine.install', run_name='__main__', alter_sys=True)"
set "runtime=%~dp0runtime"
if defined AIWORKER_RUNTIME_DIR set "runtime=%AIWORKER_RUNTIME_DIR%"
set "python_exe=%runtime%\worker\Scripts\python.exe"

rem A newer version that waits, or one on trial. In one block, since this very file may be exchanged meanwhile.
set "switch=import sys; sys.path.insert(0, sys.argv[1] + '/.updates/code'); from worker.update.switch import main; sys.exit(main())"
if exist "%~dp0.updates\pending" if exist "%python_exe%" if not defined HORDE_BRIDGE_SWITCHED (
    set "HORDE_BRIDGE_SWITCHED=1"
    "%python_exe%" -I -c "%switch%" "%~dp0." %* || exit /b 1
    "%~f0" %*
)

if not exist "%~dp0worker\engine\install\__main__.py" goto alone
if not exist "%python_exe%" goto set_up
rem The code in this folder, since an environment in a copied folder still knows the one it was copied from.
"%python_exe%" -I -c "%install%" "%~dp0." --check >nul 2>&1
if not errorlevel 1 goto start

:set_up
rem Help needs no set-up.
for %%a in (%*) do (
    if "%%~a"=="--help" goto show_help
    if "%%~a"=="-h" goto show_help
)
if "%~1"=="help" goto show_help
if "%~1"=="--version" goto show_version
rem On stderr, since stdout may be read by a program (demo --json).
set "HORDE_BRIDGE_CALLER=1"
call "%~dp0update-runtime.cmd" 1>&2
set "code=%errorlevel%"
set "HORDE_BRIDGE_CALLER="
if "%code%"=="0" goto start
rem 3: a worker runs with what would be replaced. What steers that one does without the newer packages.
if not "%code%"=="3" goto stay
set "first=%~1"
if not defined first goto stay
for %%a in (run demo benchmark) do if "%first%"=="%%a" goto stay
if "%first:~0,1%"=="-" goto stay
goto start

:show_help
type "%~dp0worker\usage.txt"
exit /b 0

:show_version
for /f "usebackq tokens=1,3" %%a in ("%~dp0worker\__init__.py") do if "%%a"=="__version__" echo %%~b
exit /b 0

:alone
echo ERROR: This script is of no use alone: "%~f0" has no folder "worker" beside it. 1>&2
echo        Unpack the whole archive ^(to open it in the Explorer is not enough^), and start it there. 1>&2
rem A window that a double click has opened can be read so; fails at once where there is none.
if not defined CI timeout.exe /t 30 2>nul
exit /b 1

:start
"%python_exe%" -I -m worker.cli %*
set "code=%errorlevel%"
if "%code%"=="0" exit /b 0
rem A version on trial that ends with an error is started again; each start counts, and the version before follows.
if not exist "%~dp0.updates\pending" goto stay
set "first=%~1"
if not defined first goto again
if "%first%"=="run" goto again
if not "%first:~0,1%"=="-" goto stay

:again
set "HORDE_BRIDGE_SWITCHED="
"%~f0" %*

:stay
call "%~dp0worker\engine\install\stay-open.cmd"
exit /b %code%
