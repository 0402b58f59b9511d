package uvm

import "time"

// SetAnswerGrace changes how long the answer to a request that was called off
// is waited for, and returns what changes it back.
func SetAnswerGrace(d time.Duration) (restore func()) {
	before := answerGrace
	answerGrace = d
	return func() { answerGrace = before }
}
