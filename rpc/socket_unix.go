//go:build unix

package rpc

import (
	"net"
	"syscall"
)

// rawConn returns what is needed to read and write nc without waiting, or nil when nc is not a plain socket.
func rawConn(nc net.Conn) syscall.RawConn {
	switch c := nc.(type) {
	case *net.TCPConn:
		return rawOf(c)
	case *net.UnixConn:
		return rawOf(c)
	}
	return nil
}

func rawOf(c syscall.Conn) syscall.RawConn {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// readFD reads once; EAGAIN means that nothing has arrived.
func readFD(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// writeFD writes as much of p as the socket takes without waiting.
func writeFD(fd uintptr, p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := syscall.Write(int(fd), p[done:])
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return done, nil
		case err != nil:
			return done, err
		default:
			done += n
		}
	}
	return done, nil
}
