//go:build !linux

package wal

import "errors"

func openDirect(string) (groups, zeros file, err error) { return nil, nil, errors.ErrUnsupported }
