package server

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"quorate.dev/quorate/limits"
)

// NotifyReady tells the service manager, if it asked for it, that this process is ready.
func NotifyReady() error {
	_, err := notifyInit("READY=1")
	return err
}

// notifyInit tells the service manager about this process when it asked for it by NOTIFY_SOCKET (sd_notify(3)); state is
// READY=1, WATCHDOG=1 or STOPPING=1. It reports whether anybody was told. A manager that does not read its socket is an error after
// limits.NotifyWait: it must not hold up the member, nor its stop.
func notifyInit(state string) (bool, error) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return false, nil
	}
	if strings.HasPrefix(path, "@") {
		path = "\x00" + path[1:] // the abstract namespace
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return false, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetWriteDeadline(time.Now().Add(limits.NotifyWait)); err != nil {
		return false, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	if _, err = conn.Write([]byte(state)); err != nil {
		return false, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	return true, nil
}
