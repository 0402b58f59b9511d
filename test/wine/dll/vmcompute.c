/*
 * A stand-in for vmcompute.dll, of which byre uses two functions: the id of a
 * layer, and the scratch disk of a container on top of layers. The disk is a
 * file that says what it was made of, and "whole" at its end.
 *
 * StandinLayerFail makes a call of a function fail, the one after so many that
 * do not; StandinLayerMisuses counts calls that the real one could not take.
 */
#include <windows.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

#define API __declspec(dllexport)

/* DRIVER_INFO and WC_LAYER_DESCRIPTOR */
typedef struct {
	int flavour;
	const WCHAR *home;
} driver_info;

typedef struct {
	GUID id;
	DWORD flags;
	const WCHAR *path;
} layer;

#define FLAVOUR_FILTER 1

static LONG misuses, calls_before;
static char failing[64];
static HRESULT failure;

API void WINAPI StandinLayerFail(const char *name, LONG after, HRESULT code)
{
	strncpy(failing, name, sizeof failing - 1);
	calls_before = after;
	failure = code;
}

API LONG WINAPI StandinLayerMisuses(void) { return misuses; }

static HRESULT begin(const char *name)
{
	if (strcmp(failing, name) || InterlockedDecrement(&calls_before) >= 0)
		return S_OK;
	failing[0] = 0;
	return failure;
}

static HRESULT misuse(void)
{
	InterlockedIncrement(&misuses);
	return E_INVALIDARG;
}

static void id_of(const WCHAR *name, GUID *id)
{
	DWORD h = 2166136261u;
	memset(id, 0, sizeof *id);
	for (; *name; name++)
		h = (h ^ *name) * 16777619u;
	id->Data1 = h;
	id->Data3 = 0x5000;
	id->Data4[0] = 0x80;
}

API HRESULT WINAPI NameToGuid(const WCHAR *name, GUID *id)
{
	HRESULT code = begin("NameToGuid");
	if (code)
		return code;
	if (!name || !*name || !id)
		return misuse();
	id_of(name, id);
	return S_OK;
}

static int is_folder(const WCHAR *path)
{
	DWORD a = path && wcslen(path) > 3 && path[1] == ':' ? GetFileAttributesW(path) : INVALID_FILE_ATTRIBUTES;
	return a != INVALID_FILE_ATTRIBUTES && a & FILE_ATTRIBUTE_DIRECTORY;
}

/* The layers are the read-only ones, the top-most first; the folder is given
   by its whole path because the driver has no home. */
API HRESULT WINAPI CreateSandboxLayer(const driver_info *info, const WCHAR *folder, const WCHAR *parent, const layer *layers, DWORD n)
{
	WCHAR path[MAX_PATH];
	GUID id;
	HRESULT code = begin("CreateSandboxLayer");
	if (!info || info->flavour != FLAVOUR_FILTER || !info->home || *info->home || parent || !layers || !n || !is_folder(folder))
		return misuse();
	for (DWORD i = 0; i < n; i++) {
		if (!is_folder(layers[i].path) || layers[i].flags)
			return misuse();
		id_of(wcsrchr(layers[i].path, '\\') + 1, &id);
		if (!IsEqualGUID(&id, &layers[i].id))
			return misuse();
	}
	swprintf(path, MAX_PATH, L"%ls\\sandbox.vhdx", folder);
	FILE *f = _wfopen(path, L"wxb");
	if (!f)
		return HRESULT_FROM_WIN32(ERROR_FILE_EXISTS);
	for (DWORD i = 0; i < n; i++) {
		char text[3 * MAX_PATH];
		WideCharToMultiByte(CP_UTF8, 0, layers[i].path, -1, text, sizeof text, NULL, NULL);
		fprintf(f, "%s\n", text);
	}
	if (!code) /* what fails may leave a part */
		fprintf(f, "whole\n");
	fclose(f);
	return code;
}
