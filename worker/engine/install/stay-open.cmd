@echo off
rem Keeps a window open that a double click opened, so that its owner can read why it ends. Never without a terminal,
rem and never in a window that was there before: Explorer's command line is: cmd.exe /c ""PATH" "
setlocal EnableExtensions EnableDelayedExpansion
if defined CI exit /b 0
set "line=!CMDCMDLINE!"
if not defined line exit /b 0
set "cut=!line:" "=!"
if "!cut!"=="!line!" exit /b 0
rem Fails where the input is no console.
timeout.exe /t 0 >nul 2>&1
if errorlevel 1 exit /b 0
pause
exit /b 0
