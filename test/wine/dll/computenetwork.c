/*
 * A stand-in for computenetwork.dll: networks, endpoints and namespaces in the
 * memory of the process, as strict as the real service may be. Documents are
 * kept as they came, with the members that the service decides behind theirs:
 * who reads them takes the last of a name. There are the networks "nat" and
 * "Default Switch".
 *
 * StandinNetworkFail makes the next call of a function fail,
 * StandinNetworkHandles counts the handles that are open, and
 * StandinNetworkMisuses the calls with handles that are not.
 */
#include <windows.h>
#include <objbase.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#define API __declspec(dllexport)

#define NOT_FOUND ((HRESULT)0x80070490)
#define ALREADY_EXISTS ((HRESULT)0x800700B7)
#define HCN_E_ENDPOINT_ALREADY_ATTACHED ((HRESULT)0x803B0014)
#define HCN_E_INVALID_JSON ((HRESULT)0x803B001B)
#define HCN_E_ENTITY_HAS_REFERENCES ((HRESULT)0x803B002C)

enum { NETWORK, ENDPOINT, NAMESPACE, KINDS };

typedef struct object {
	GUID id, network, namespace; /* of an endpoint; namespace zero is none */
	int kind, nic, order;
	WCHAR *settings; /* without the braces around it */
	struct object *next;
} object;

typedef struct {
	DWORD magic;
	int kind;
	GUID id;
} handle;

#define OPEN 0x48434e48
#define CLOSED 0x44454144

static CRITICAL_SECTION lock; /* guards everything below */
static object *objects, **tail = &objects;
static LONG handles, misuses, made, added;
static char failing[64];
static HRESULT failure;
static const GUID zero;

static void add(int kind, const GUID *id, const GUID *network, const WCHAR *settings);

BOOL WINAPI DllMain(HINSTANCE h, DWORD reason, LPVOID p)
{
	static const GUID nat = {0x11111111, 0, 0x4000, {0x80, 0, 0, 0, 0, 0, 0, 1}};
	static const GUID ics = {0xC08CB7B8, 0x9B3C, 0x408E, {0x8E, 0x30, 0x5E, 0x16, 0xA3, 0xAE, 0xB4, 0x44}};
	(void)h;
	(void)p;
	if (reason == DLL_PROCESS_ATTACH) {
		InitializeCriticalSection(&lock);
		add(NETWORK, &nat, NULL, L"{\"Name\":\"nat\",\"Type\":\"NAT\"}");
		add(NETWORK, &ics, NULL, L"{\"Name\":\"Default Switch\",\"Type\":\"ICS\"}");
	}
	return TRUE;
}

API void WINAPI StandinNetworkFail(const char *name, HRESULT code)
{
	EnterCriticalSection(&lock);
	strncpy(failing, name, sizeof failing - 1);
	failure = code;
	LeaveCriticalSection(&lock);
}

API LONG WINAPI StandinNetworkHandles(void) { return handles; }

API LONG WINAPI StandinNetworkMisuses(void) { return misuses; }

static WCHAR *give(const WCHAR *s)
{
	size_t n = (wcslen(s) + 1) * sizeof(WCHAR);
	WCHAR *p = CoTaskMemAlloc(n);
	memcpy(p, s, n);
	return p;
}

static void guid_text(const GUID *g, WCHAR *w)
{
	StringFromGUID2(g, w, 39); /* in braces and capitals */
	memmove(w, w + 1, 36 * sizeof *w);
	w[36] = 0;
}

/* What every function does first and last: scripted failures, records. */
static HRESULT begin(const char *name)
{
	EnterCriticalSection(&lock);
	if (strcmp(failing, name))
		return S_OK;
	failing[0] = 0;
	return failure;
}

static HRESULT end(HRESULT code, WCHAR **record)
{
	LeaveCriticalSection(&lock);
	if (record) {
		WCHAR w[128];
		swprintf(w, 128, L"{\"Success\":false,\"Error\":\"the stand-in says no\",\"ErrorCode\":%u}", (unsigned)code);
		*record = FAILED(code) ? give(w) : NULL;
	}
	return code;
}

static object *find(int kind, const GUID *id)
{
	for (object *o = objects; o; o = o->next)
		if (o->kind == kind && IsEqualGUID(&o->id, id))
			return o;
	return NULL;
}

static void add(int kind, const GUID *id, const GUID *network, const WCHAR *settings)
{
	object *o = calloc(1, sizeof *o);
	o->kind = kind;
	o->id = *id;
	if (network)
		o->network = *network;
	o->nic = ++made;
	o->settings = _wcsdup(settings + 1);
	*wcsrchr(o->settings, '}') = 0;
	*tail = o;
	tail = &o->next;
}

static HRESULT check(handle *h, int kind)
{
	if (h && h->magic == OPEN && h->kind == kind)
		return S_OK;
	InterlockedIncrement(&misuses);
	return E_HANDLE;
}

static handle *new_handle(int kind, const GUID *id)
{
	handle *h = calloc(1, sizeof *h);
	h->magic = OPEN;
	h->kind = kind;
	h->id = *id;
	InterlockedIncrement(&handles);
	return h;
}

/* A closed handle is kept, so that a use after that is noticed. A call that
   has to fail closes it, too: it is never tried again. */
static HRESULT close_(const char *name, handle *h, int kind)
{
	HRESULT code = begin(name), ok = check(h, kind);
	if (SUCCEEDED(ok)) {
		h->magic = CLOSED;
		InterlockedDecrement(&handles);
	}
	return end(FAILED(code) ? code : ok, NULL);
}

static HRESULT open_(const char *name, int kind, const GUID *id, void **out, WCHAR **record)
{
	HRESULT code = begin(name);
	if (SUCCEEDED(code) && !find(kind, id))
		code = NOT_FOUND;
	if (SUCCEEDED(code))
		*out = new_handle(kind, id);
	return end(code, record);
}

static HRESULT list(const char *name, int kind, const WCHAR *query, WCHAR **out, WCHAR **record)
{
	HRESULT code = begin(name);
	if (SUCCEEDED(code) && (!query || query[0] != '{'))
		code = HCN_E_INVALID_JSON;
	if (SUCCEEDED(code)) {
		size_t n = 3;
		for (object *o = objects; o; o = o->next)
			n += 40;
		WCHAR *w = malloc(n * sizeof *w), *p = w;
		*p++ = '[';
		for (object *o = objects; o; o = o->next)
			if (o->kind == kind) {
				if (p[-1] != '[')
					*p++ = ',';
				*p++ = '"';
				guid_text(&o->id, p);
				p += 36;
				*p++ = '"';
			}
		*p++ = ']';
		*p = 0;
		*out = give(w);
		free(w);
	}
	return end(code, record);
}

static HRESULT properties(const char *name, int kind, handle *h, const WCHAR *query, WCHAR **out, WCHAR **record)
{
	WCHAR id[40], network[40], namespace[40];
	object *o = NULL;
	HRESULT code = begin(name);
	if (SUCCEEDED(code))
		code = check(h, kind);
	if (SUCCEEDED(code) && (!query || query[0] != '{'))
		code = HCN_E_INVALID_JSON;
	if (SUCCEEDED(code) && !(o = find(kind, &h->id)))
		code = NOT_FOUND;
	if (FAILED(code))
		return end(code, record);
	guid_text(&o->id, id);
	guid_text(&o->network, network);
	guid_text(&o->namespace, namespace);
	size_t n = wcslen(o->settings) + 512, members = 0;
	for (object *e = objects; e; e = e->next)
		members++;
	n += members * 100;
	WCHAR *w = malloc(n * sizeof *w), *p = w;
	if (kind == ENDPOINT) {
		p += swprintf(p, 128, L"{\"MacAddress\":\"00-15-5D-00-%02X-%02X\",", o->nic >> 8 & 0xff, o->nic & 0xff);
		wcscpy(p, o->settings);
		p += wcslen(p);
		p += swprintf(p, 256, L",\"ID\":\"%ls\",\"HostComputeNetwork\":\"%ls\",\"HostComputeNamespace\":\"%ls\"}", id, network, namespace);
	} else {
		*p++ = '{';
		wcscpy(p, o->settings);
		p += wcslen(p);
		p += swprintf(p, 128, L",\"ID\":\"%ls\",\"NamespaceId\":%d,\"Resources\":[", id, o->nic);
		/* in the order in which they were put in */
		for (int after = 0, found = 1; found;) {
			object *next = NULL;
			for (object *e = objects; e; e = e->next)
				if (kind == NAMESPACE && e->kind == ENDPOINT && IsEqualGUID(&e->namespace, &o->id) && e->order > after && (!next || e->order < next->order))
					next = e;
			found = next != NULL;
			if (found) {
				guid_text(&next->id, id);
				p += swprintf(p, 100, L"%ls{\"Type\":\"Endpoint\",\"Data\":{\"Id\":\"%ls\"}}", p[-1] == '[' ? L"" : L",", id);
				after = next->order;
			}
		}
		wcscpy(p, L"]}");
	}
	*out = give(w);
	free(w);
	return end(code, record);
}

static HRESULT create(const char *name, int kind, handle *network, const GUID *id, const WCHAR *settings, void **out, WCHAR **record)
{
	HRESULT code = begin(name);
	if (SUCCEEDED(code) && kind == ENDPOINT)
		code = check(network, NETWORK);
	if (SUCCEEDED(code) && (!settings || settings[0] != '{' || !wcschr(settings, '}') || IsEqualGUID(id, &zero)))
		code = HCN_E_INVALID_JSON;
	if (SUCCEEDED(code) && find(kind, id))
		code = ALREADY_EXISTS;
	if (SUCCEEDED(code)) {
		add(kind, id, network ? &network->id : NULL, settings);
		*out = new_handle(kind, id);
	}
	return end(code, record);
}

static HRESULT delete_(const char *name, int kind, const GUID *id, WCHAR **record)
{
	HRESULT code = begin(name);
	object *o = find(kind, id), **p = &objects;
	if (SUCCEEDED(code) && !o)
		code = NOT_FOUND;
	if (SUCCEEDED(code) && !IsEqualGUID(&o->namespace, &zero))
		code = HCN_E_ENTITY_HAS_REFERENCES;
	for (object *e = objects; SUCCEEDED(code) && e; e = e->next)
		if (IsEqualGUID(&e->namespace, id))
			code = HCN_E_ENTITY_HAS_REFERENCES;
	if (SUCCEEDED(code)) {
		while (*p != o)
			p = &(*p)->next;
		*p = o->next;
		if (tail == &o->next)
			tail = p;
		free(o->settings);
		free(o);
	}
	return end(code, record);
}

/* {"ResourceType":"Endpoint","RequestType":"Add","Settings":{"EndpointId":"..."}} */
static HRESULT modify(const char *name, handle *h, const WCHAR *settings, WCHAR **record)
{
	static const WCHAR member[] = L"\"EndpointId\":\"";
	WCHAR text[40] = L"{";
	GUID id;
	object *e = NULL;
	HRESULT code = begin(name);
	if (SUCCEEDED(code))
		code = check(h, NAMESPACE);
	if (SUCCEEDED(code) && !find(NAMESPACE, &h->id))
		code = NOT_FOUND;
	if (SUCCEEDED(code)) {
		const WCHAR *s = settings ? wcsstr(settings, member) : NULL;
		if (!s || !wcsstr(settings, L"\"ResourceType\":\"Endpoint\"") || wcslen(s) < wcslen(member) + 36) {
			code = HCN_E_INVALID_JSON;
		} else {
			wcsncat(text, s + wcslen(member), 36);
			wcscat(text, L"}");
			if (FAILED(CLSIDFromString(text, &id)))
				code = HCN_E_INVALID_JSON;
		}
	}
	if (SUCCEEDED(code) && !(e = find(ENDPOINT, &id)))
		code = NOT_FOUND;
	if (SUCCEEDED(code)) {
		if (wcsstr(settings, L"\"RequestType\":\"Add\"") && IsEqualGUID(&e->namespace, &zero)) {
			e->namespace = h->id;
			e->order = ++added;
		} else if (wcsstr(settings, L"\"RequestType\":\"Remove\"") && IsEqualGUID(&e->namespace, &h->id)) {
			e->namespace = zero;
		} else {
			code = HCN_E_ENDPOINT_ALREADY_ATTACHED;
		}
	}
	return end(code, record);
}

#define KIND(Name, kind) \
	API HRESULT WINAPI HcnEnumerate##Name##s(const WCHAR *q, WCHAR **out, WCHAR **r) { return list("HcnEnumerate" #Name "s", kind, q, out, r); } \
	API HRESULT WINAPI HcnOpen##Name(const GUID *id, void **h, WCHAR **r) { return open_("HcnOpen" #Name, kind, id, h, r); } \
	API HRESULT WINAPI HcnClose##Name(void *h) { return close_("HcnClose" #Name, h, kind); } \
	API HRESULT WINAPI HcnQuery##Name##Properties(void *h, const WCHAR *q, WCHAR **out, WCHAR **r) { return properties("HcnQuery" #Name "Properties", kind, h, q, out, r); }

KIND(Network, NETWORK)
KIND(Endpoint, ENDPOINT)
KIND(Namespace, NAMESPACE)

API HRESULT WINAPI HcnCreateEndpoint(void *network, const GUID *id, const WCHAR *settings, void **h, WCHAR **r) { return create("HcnCreateEndpoint", ENDPOINT, network, id, settings, h, r); }
API HRESULT WINAPI HcnDeleteEndpoint(const GUID *id, WCHAR **r) { return delete_("HcnDeleteEndpoint", ENDPOINT, id, r); }
API HRESULT WINAPI HcnCreateNamespace(const GUID *id, const WCHAR *settings, void **h, WCHAR **r) { return create("HcnCreateNamespace", NAMESPACE, NULL, id, settings, h, r); }
API HRESULT WINAPI HcnDeleteNamespace(const GUID *id, WCHAR **r) { return delete_("HcnDeleteNamespace", NAMESPACE, id, r); }
API HRESULT WINAPI HcnModifyNamespace(void *h, const WCHAR *settings, WCHAR **r) { return modify("HcnModifyNamespace", h, settings, r); }
