package uvm

import "context"

// CreateWCOW makes a utility VM for Windows containers. It is not implemented
// yet: the error wraps [hcs.ErrNotSupported].
func CreateWCOW(ctx context.Context, opts *OptionsWCOW) (_ *UtilityVM, err error) {
	if opts == nil || opts.Options == nil {
		return nil, errOptions
	}
	return nil, notYet("a utility VM for Windows containers")
}
