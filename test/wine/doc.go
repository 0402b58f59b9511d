// Package wine has the tests of the Windows half that need no Windows: under
// Wine, on the stand-in DLLs of the folder dll, by hack/wine.sh; and, without
// the DLL, on any system. docs/windows.md says what that proves and what not.
package wine
