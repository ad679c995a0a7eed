@echo off
rem Sets up what the worker needs, or repairs and updates it. All options: update-runtime.cmd --help
rem The Python is PYTHON if that is set, else the first of a list that can make virtual environments.
setlocal EnableExtensions DisableDelayedExpansion
set "is_of_use=import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))"
rem One line, since a batch file can't hand over more. The dot after %~dp0 keeps its last backslash from the quote.
set "install=import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('worker.engine.install', run_name='__main__', alter_sys=True)"

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
echo ERROR: No Python 3.10 to 3.13 was found. 1>&2
echo        Install Python 3.12 from python.org (64-bit, with the launcher "py"), open a new window and try again, 1>&2
echo        or set PYTHON to the full path of a python.exe. 1>&2
exit /b 1

:launcher
py -%version% -I -c "%install%" "%~dp0." %*
exit /b %errorlevel%

:named
"%PYTHON%" -I -c "%is_of_use%" >nul 2>&1
if not errorlevel 1 goto found
echo ERROR: PYTHON is %PYTHON%, which is no Python 3.10 to 3.13 with the modules venv and ensurepip. 1>&2
exit /b 1

:found
"%PYTHON%" -I -c "%install%" "%~dp0." %*
exit /b %errorlevel%
