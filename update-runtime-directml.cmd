@echo off
rem update-runtime.cmd for cards that only DirectML can use.
call "%~dp0update-runtime.cmd" --directml %*
exit /b %errorlevel%
