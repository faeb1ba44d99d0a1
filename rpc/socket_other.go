//go:build !unix

package rpc

import (
	"errors"
	"net"
	"syscall"
)

// rawConn returns nil: every connection is read and written through net.Conn here.
func rawConn(net.Conn) syscall.RawConn { return nil }

func readFD(uintptr, []byte) (int, error)  { return 0, errors.ErrUnsupported }
func writeFD(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
