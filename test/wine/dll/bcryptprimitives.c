/*
 * Go programs get their random numbers from ProcessPrng of
 * bcryptprimitives.dll, which Wine 8 lacks; Wine's own DLL, where there is
 * one, is used instead of this.
 */
#include <windows.h>

#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *data, SIZE_T n)
{
	return RtlGenRandom(data, (ULONG)n);
}
