package hcstest

import "context"

// T is what the conformance suite needs of a test: the part of *testing.T
// that a program without package testing can give, too. Fatalf does not
// return. The context of a sub-test ends before its clean-ups run.
type T interface {
	common

	// Run runs a sub-test and reports whether it passed.
	Run(name string, f func(T)) bool
}

type common interface {
	Name() string
	Helper()
	Context() context.Context
	TempDir() string
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// A testingT is *testing.T, whose sub-tests take the type itself.
type testingT[S any] interface {
	common
	Run(name string, f func(S)) bool
}

// Wrap adapts a *testing.T.
func Wrap[S testingT[S]](t S) T { return wrapped[S]{t, t} }

type wrapped[S testingT[S]] struct {
	common
	t S
}

func (w wrapped[S]) Run(name string, f func(T)) bool {
	return w.t.Run(name, func(s S) { f(Wrap(s)) })
}
