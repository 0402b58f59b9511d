//go:build !linux && !windows

package hns

func host() Network { return absent{} }

func newSession() (Session, error) { return nil, absent{}.err("beginning a session") }
