/*
 * A stand-in for computecore.dll. The functions of the real one behave as its
 * documentation says, as far as byre uses them: operations with results and
 * process information, handles, callbacks on threads of the DLL. What a call
 * is to do is asked of the test program in the same process, which takes
 * requests by StandinNext and answers them by StandinAnswer.
 */
#ifndef STANDIN_H
#define STANDIN_H

#include <windows.h>

#define API __declspec(dllexport)

/* Codes that the DLL itself answers with (winerror.h, HCS HRESULT). */
#define HCS_E_OPERATION_NOT_STARTED ((HRESULT)0x80370115)
#define HCS_E_OPERATION_ALREADY_STARTED ((HRESULT)0x80370116)
#define HCS_E_OPERATION_TIMEOUT ((HRESULT)0x80370118)
#define HCS_E_PROCESS_INFO_NOT_AVAILABLE ((HRESULT)0x8037011D)
#define HR_INVALID_HANDLE ((HRESULT)0x80070006)

/* HCS_EVENT, HCS_EVENT_CALLBACK */
typedef struct {
	DWORD type;
	const WCHAR *data;
	void *operation;
} hcs_event;
typedef void(CALLBACK *hcs_event_callback)(hcs_event *, void *);

/* HCS_PROCESS_INFORMATION */
typedef struct {
	DWORD pid, reserved;
	HANDLE in, out, err;
} process_info;

/* HCS_OPERATION */
typedef struct {
	DWORD magic;
	LONG refs; /* of the caller, and of the request that is under way */
	HANDLE done;
	int started, has_info;
	HRESULT result;
	WCHAR *document;
	process_info info;
} operation;

/* HCS_SYSTEM and HCS_PROCESS. They are kept when they are closed, so that a
   use after that is noticed. */
typedef struct object {
	DWORD magic;
	struct object *parent; /* of a process, its system */
	hcs_event_callback callback;
	void *context;
} object;

/* A request is what the test program is asked for. */
typedef struct request {
	const char *name; /* of the function */
	object *handle, *parent;
	WCHAR *a, *b;
	struct request *next;
	operation *op;    /* that the answer is the result of, or */
	HANDLE answered;  /* set when the answer is here: */
	HRESULT result;
	WCHAR *document;
} request;

#endif
