#include "standin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#define OPERATION 0x4f504552
#define SYSTEM 0x53595354
#define PROCESS 0x50524f43
#define DEAD 0x44454144

static CRITICAL_SECTION lock; /* guards everything below */
static CONDITION_VARIABLE wake;
static request *queue, **tail = &queue;
static int stopped = 1, sync_mode;
static DWORD delay;
static LONG operations, systems, processes, misuses;

static struct { char name[64]; LONG count; } counts[64];
static struct { char name[64]; LONG nth; HRESULT code; int late; } failures[64];
static int n_failures;

BOOL WINAPI DllMain(HINSTANCE h, DWORD reason, LPVOID p)
{
	(void)h;
	(void)p;
	if (reason == DLL_PROCESS_ATTACH) {
		InitializeCriticalSection(&lock);
		InitializeConditionVariable(&wake);
	}
	return TRUE;
}

static WCHAR *dup_text(const WCHAR *s) { return s ? _wcsdup(s) : NULL; }

/* A document of the real DLL is freed by its caller, with LocalFree. */
static WCHAR *give(const WCHAR *s)
{
	if (!s)
		return NULL;
	size_t n = (wcslen(s) + 1) * sizeof(WCHAR);
	WCHAR *p = LocalAlloc(LMEM_FIXED, n);
	memcpy(p, s, n);
	return p;
}

/* lock is held. */
static LONG count(const char *name)
{
	int i = 0;
	while (counts[i].name[0] && strcmp(counts[i].name, name))
		i++;
	strcpy(counts[i].name, name);
	return ++counts[i].count;
}

/* A call counts, under its name and under "*", and may have to fail: at once,
   or late, as its result. */
static HRESULT script(const char *name, HRESULT *late)
{
	HRESULT code = S_OK;
	*late = S_OK;
	EnterCriticalSection(&lock);
	LONG n = count(name), any = count("*");
	for (int i = 0; i < n_failures; i++)
		if ((!strcmp(failures[i].name, name) && (!failures[i].nth || failures[i].nth == n)) || (!strcmp(failures[i].name, "*") && failures[i].nth == any)) {
			if (failures[i].late)
				*late = failures[i].code;
			else
				code = failures[i].code;
		}
	LeaveCriticalSection(&lock);
	return code;
}

static void misuse(void) { InterlockedIncrement(&misuses); }

static void unref(operation *op)
{
	if (InterlockedDecrement(&op->refs))
		return;
	CloseHandle(op->done);
	free(op->document);
	op->magic = DEAD;
	free(op);
}

static void finish(operation *op, HRESULT result, const WCHAR *document)
{
	op->result = result;
	op->document = dup_text(document);
	SetEvent(op->done);
	unref(op);
}

typedef struct {
	operation *op;
	HRESULT result;
	WCHAR *document;
	DWORD delay;
} completion;

static DWORD WINAPI complete_thread(void *p)
{
	completion *c = p;
	Sleep(c->delay);
	finish(c->op, c->result, c->document);
	free(c->document);
	free(c);
	return 0;
}

/* The result comes on a thread of its own, after the delay; with sync it is
   there when this returns. */
static void complete(operation *op, HRESULT result, const WCHAR *document)
{
	if (sync_mode) {
		Sleep(delay);
		finish(op, result, document);
		return;
	}
	completion *c = malloc(sizeof *c);
	c->op = op;
	c->result = result;
	c->document = dup_text(document);
	c->delay = delay;
	CloseHandle(CreateThread(NULL, 0, complete_thread, c, 0, NULL));
}

/* ask puts a request into the queue. With an operation its answer is that
   one's result; without, or with sync, ask waits for it. */
static HRESULT ask(const char *name, object *handle, const WCHAR *a, const WCHAR *b, operation *op, WCHAR **document)
{
	request *r = calloc(1, sizeof *r);
	HANDLE answered = NULL;
	HRESULT result = S_OK;
	r->name = name;
	r->handle = handle;
	r->parent = handle ? handle->parent : NULL;
	r->a = dup_text(a);
	r->b = dup_text(b);
	r->op = op;
	if (!op || sync_mode)
		r->answered = answered = CreateEventW(NULL, TRUE, FALSE, NULL);
	EnterCriticalSection(&lock);
	if (stopped) { /* nobody answers */
		LeaveCriticalSection(&lock);
		misuse();
		if (op)
			finish(op, E_UNEXPECTED, NULL);
		return op ? S_OK : E_UNEXPECTED;
	}
	*tail = r;
	tail = &r->next;
	WakeConditionVariable(&wake);
	LeaveCriticalSection(&lock);
	if (!answered)
		return S_OK;
	WaitForSingleObject(answered, INFINITE);
	CloseHandle(answered);
	if (!op) {
		result = r->result;
		if (document)
			*document = give(r->document);
		free(r->document);
	}
	free(r->a);
	free(r->b);
	free(r);
	return result;
}

/* begin starts an operation, whose function is called name. */
static HRESULT begin(const char *name, operation *op)
{
	if (!op || op->magic != OPERATION) {
		misuse();
		return HR_INVALID_HANDLE;
	}
	if (op->started) {
		misuse();
		return HCS_E_OPERATION_ALREADY_STARTED;
	}
	HRESULT late, code = script(name, &late);
	if (code)
		return code;
	op->started = 1;
	InterlockedIncrement(&op->refs);
	if (late) {
		complete(op, late, L"{\"Error\":-2147467259,\"ErrorMessage\":\"failed as the script says\"}");
		return S_FALSE; /* begun, but not to be asked for */
	}
	return S_OK;
}

static HRESULT on_object(const char *name, DWORD magic, object *o, operation *op, const WCHAR *document)
{
	if (!o || o->magic != magic) {
		misuse();
		return HR_INVALID_HANDLE;
	}
	HRESULT code = begin(name, op);
	if (code)
		return code == S_FALSE ? S_OK : code;
	return ask(name, o, document, NULL, op, NULL);
}

static object *new_object(DWORD magic)
{
	object *o = calloc(1, sizeof *o);
	o->magic = magic;
	InterlockedIncrement(magic == SYSTEM ? &systems : &processes);
	return o;
}

static void close_object(const char *name, DWORD magic, object *o)
{
	HRESULT late;
	if (!o || o->magic != magic) {
		misuse();
		return;
	}
	script(name, &late);
	EnterCriticalSection(&lock);
	o->magic = DEAD; /* the callback stays: a late event is the caller's to stand */
	LeaveCriticalSection(&lock);
	ask(name, o, NULL, NULL, NULL, NULL);
	InterlockedDecrement(magic == SYSTEM ? &systems : &processes);
}

/* Operations. */

API operation *WINAPI HcsCreateOperation(const void *context, void *callback)
{
	(void)context;
	(void)callback;
	HRESULT late;
	if (script("HcsCreateOperation", &late))
		return NULL; /* there is no memory */
	operation *op = calloc(1, sizeof *op);
	op->magic = OPERATION;
	op->refs = 1;
	op->done = CreateEventW(NULL, TRUE, FALSE, NULL);
	InterlockedIncrement(&operations);
	return op;
}

API void WINAPI HcsCloseOperation(operation *op)
{
	if (!op || op->magic != OPERATION) {
		misuse();
		return;
	}
	if (op->started && WaitForSingleObject(op->done, 0) == WAIT_TIMEOUT)
		misuse(); /* abandoned in flight */
	InterlockedDecrement(&operations);
	unref(op);
}

API HRESULT WINAPI HcsWaitForOperationResult(operation *op, DWORD ms, WCHAR **document)
{
	if (document)
		*document = NULL;
	if (!op->started)
		return HCS_E_OPERATION_NOT_STARTED;
	if (WaitForSingleObject(op->done, ms) == WAIT_TIMEOUT)
		return HCS_E_OPERATION_TIMEOUT;
	if (document)
		*document = give(op->document);
	return op->result;
}

API HRESULT WINAPI HcsWaitForOperationResultAndProcessInfo(operation *op, DWORD ms, process_info *info, WCHAR **document)
{
	HRESULT result = HcsWaitForOperationResult(op, ms, document);
	if (FAILED(result))
		return result;
	if (!op->has_info)
		return HCS_E_PROCESS_INFO_NOT_AVAILABLE;
	if (info)
		*info = op->info;
	return result;
}

/* Systems. */

API HRESULT WINAPI HcsEnumerateComputeSystems(const WCHAR *query, operation *op)
{
	HRESULT code = begin("HcsEnumerateComputeSystems", op);
	if (code)
		return code == S_FALSE ? S_OK : code;
	return ask("HcsEnumerateComputeSystems", NULL, query, NULL, op, NULL);
}

API HRESULT WINAPI HcsCreateComputeSystem(const WCHAR *id, const WCHAR *document, operation *op, void *sd, object **system)
{
	(void)sd;
	*system = NULL;
	HRESULT code = begin("HcsCreateComputeSystem", op);
	if (FAILED(code))
		return code;
	*system = new_object(SYSTEM); /* before the result is there */
	if (code == S_FALSE)
		return S_OK;
	return ask("HcsCreateComputeSystem", *system, id, document, op, NULL);
}

API HRESULT WINAPI HcsOpenComputeSystem(const WCHAR *id, DWORD access, object **system)
{
	(void)access;
	HRESULT late, code = script("HcsOpenComputeSystem", &late);
	*system = NULL;
	if (code)
		return code;
	object *o = new_object(SYSTEM);
	code = ask("HcsOpenComputeSystem", o, id, NULL, NULL, NULL);
	if (FAILED(code)) {
		o->magic = DEAD;
		InterlockedDecrement(&systems);
		return code;
	}
	*system = o;
	return code;
}

API void WINAPI HcsCloseComputeSystem(object *o) { close_object("HcsCloseComputeSystem", SYSTEM, o); }

#define ON_SYSTEM(name) \
	API HRESULT WINAPI name(object *o, operation *op, const WCHAR *document) { return on_object(#name, SYSTEM, o, op, document); }
ON_SYSTEM(HcsStartComputeSystem)
ON_SYSTEM(HcsShutDownComputeSystem)
ON_SYSTEM(HcsTerminateComputeSystem)
ON_SYSTEM(HcsGetComputeSystemProperties)

API HRESULT WINAPI HcsModifyComputeSystem(object *o, operation *op, const WCHAR *document, HANDLE identity)
{
	if (identity)
		misuse();
	return on_object("HcsModifyComputeSystem", SYSTEM, o, op, document);
}

static HRESULT set_callback(const char *name, DWORD magic, object *o, DWORD options, void *context, hcs_event_callback callback)
{
	HRESULT late, code = script(name, &late);
	if (code)
		return code;
	if (!o || o->magic != magic || options) {
		misuse();
		return HR_INVALID_HANDLE;
	}
	EnterCriticalSection(&lock);
	o->context = context;
	o->callback = callback;
	LeaveCriticalSection(&lock);
	return ask(name, o, NULL, NULL, NULL, NULL);
}

API HRESULT WINAPI HcsSetComputeSystemCallback(object *o, DWORD options, void *context, hcs_event_callback callback)
{
	return set_callback("HcsSetComputeSystemCallback", SYSTEM, o, options, context, callback);
}

/* Processes. */

API HRESULT WINAPI HcsCreateProcess(object *system, const WCHAR *parameters, operation *op, void *sd, object **process)
{
	(void)sd;
	*process = NULL;
	if (!system || system->magic != SYSTEM) {
		misuse();
		return HR_INVALID_HANDLE;
	}
	HRESULT code = begin("HcsCreateProcess", op);
	if (FAILED(code))
		return code;
	*process = new_object(PROCESS);
	if (code == S_FALSE)
		return S_OK;
	(*process)->parent = system;
	return ask("HcsCreateProcess", *process, parameters, NULL, op, NULL);
}

API void WINAPI HcsCloseProcess(object *o) { close_object("HcsCloseProcess", PROCESS, o); }

#define ON_PROCESS(name) \
	API HRESULT WINAPI name(object *o, operation *op, const WCHAR *document) { return on_object(#name, PROCESS, o, op, document); }
ON_PROCESS(HcsSignalProcess)
ON_PROCESS(HcsTerminateProcess)
ON_PROCESS(HcsModifyProcess)
ON_PROCESS(HcsGetProcessProperties)

API HRESULT WINAPI HcsSetProcessCallback(object *o, DWORD options, void *context, hcs_event_callback callback)
{
	return set_callback("HcsSetProcessCallback", PROCESS, o, options, context, callback);
}

/* The service. */

API HRESULT WINAPI HcsGetServiceProperties(const WCHAR *query, WCHAR **document)
{
	HRESULT late, code = script("HcsGetServiceProperties", &late);
	*document = NULL;
	return code ? code : ask("HcsGetServiceProperties", NULL, query, NULL, NULL, document);
}

API HRESULT WINAPI HcsGrantVmAccess(const WCHAR *id, const WCHAR *path)
{
	HRESULT late, code = script("HcsGrantVmAccess", &late);
	return code ? code : ask("HcsGrantVmAccess", NULL, id, path, NULL, NULL);
}

API HRESULT WINAPI HcsGrantVmGroupAccess(const WCHAR *path)
{
	HRESULT late, code = script("HcsGrantVmGroupAccess", &late);
	return code ? code : ask("HcsGrantVmGroupAccess", NULL, path, NULL, NULL, NULL);
}

/* For the test program. */

/* StandinStart begins to take requests, StandinScript says how to answer. */
API void WINAPI StandinStart(void)
{
	EnterCriticalSection(&lock);
	stopped = 0;
	memset(counts, 0, sizeof counts);
	n_failures = 0;
	sync_mode = 0;
	delay = 0;
	misuses = 0;
	LeaveCriticalSection(&lock);
}

API void WINAPI StandinScript(int sync, DWORD ms)
{
	sync_mode = sync;
	delay = ms;
}

API void WINAPI StandinFail(const char *name, LONG nth, HRESULT code, int late)
{
	EnterCriticalSection(&lock);
	strncpy(failures[n_failures].name, name, sizeof failures[0].name - 1);
	failures[n_failures].nth = nth;
	failures[n_failures].code = code;
	failures[n_failures].late = late;
	n_failures++;
	LeaveCriticalSection(&lock);
}

/* StandinStop ends StandinNext. */
API void WINAPI StandinStop(void)
{
	EnterCriticalSection(&lock);
	stopped = 1;
	WakeAllConditionVariable(&wake);
	LeaveCriticalSection(&lock);
}

/* StandinNext waits for a request and returns it, or NULL when it is time to
   stop. It stays valid until it is answered. */
API request *WINAPI StandinNext(void)
{
	EnterCriticalSection(&lock);
	while (!queue && !stopped)
		SleepConditionVariableCS(&wake, &lock, INFINITE);
	request *r = queue;
	if (r) {
		queue = r->next;
		if (!queue)
			tail = &queue;
		r->next = NULL;
	}
	LeaveCriticalSection(&lock);
	return r;
}

API void WINAPI StandinAnswer(request *r, HRESULT result, const WCHAR *document, const process_info *info)
{
	HANDLE answered = r->answered;
	if (r->op) {
		if (info) {
			r->op->info = *info;
			r->op->has_info = 1;
		}
		complete(r->op, result, document);
	} else {
		r->result = result;
		r->document = dup_text(document);
	}
	if (answered) {
		SetEvent(answered); /* ask frees it */
		return;
	}
	free(r->a);
	free(r->b);
	free(r);
}

typedef struct {
	hcs_event_callback callback;
	void *context;
	hcs_event event;
} delivery;

static DWORD WINAPI event_thread(void *p)
{
	delivery *d = p;
	d->callback(&d->event, d->context);
	return 0;
}

/* StandinEvent delivers an event, on a thread of the DLL unless sync, and
   returns when the callback has. */
API void WINAPI StandinEvent(object *o, DWORD type, const WCHAR *data)
{
	EnterCriticalSection(&lock);
	delivery d = {o->callback, o->context, {type, data, NULL}};
	LeaveCriticalSection(&lock);
	if (!d.callback)
		return;
	if (sync_mode) {
		event_thread(&d);
		return;
	}
	HANDLE t = CreateThread(NULL, 0, event_thread, &d, 0, NULL);
	WaitForSingleObject(t, INFINITE);
	CloseHandle(t);
}

API LONG WINAPI StandinCount(const char *name)
{
	LONG n = 0;
	EnterCriticalSection(&lock);
	for (int i = 0; counts[i].name[0]; i++)
		if (!strcmp(counts[i].name, name))
			n = counts[i].count;
	LeaveCriticalSection(&lock);
	return n;
}

/* StandinLeft returns what is open: 0 operations, 1 systems, 2 processes; and
   3, how often the interface was misused. */
API LONG WINAPI StandinLeft(int what)
{
	LONG *n[] = {&operations, &systems, &processes, &misuses};
	return *n[what];
}
