package bridge

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
)

// A Trace is the trace span of a request, as OpenCensus has it.
type Trace struct {
	TraceID      string `json:"TraceID,omitempty"` // 32 hexadecimal digits
	SpanID       string `json:"SpanID,omitempty"`  // 16
	TraceOptions uint32 `json:"TraceOptions,omitempty"`
	// Tracestate is base64 of a JSON array of TraceEntry.
	Tracestate string `json:"Tracestate,omitempty"`
}

// A TraceEntry is one vendor's part of the trace state.
type TraceEntry struct{ Key, Value string }

// NewTrace returns the trace with these ids; without entries it has no state.
func NewTrace(trace [16]byte, span [8]byte, options uint32, state ...TraceEntry) *Trace {
	t := &Trace{TraceID: hex.EncodeToString(trace[:]), SpanID: hex.EncodeToString(span[:]), TraceOptions: options}
	if len(state) > 0 {
		b, _ := json.Marshal(state) // strings only
		t.Tracestate = base64.StdEncoding.EncodeToString(b)
	}
	return t
}
