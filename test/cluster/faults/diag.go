package faults

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// inodeOf is the inode of the socket whose own end is own. It asks the kernel for that one socket (sock_diag(7)):
// /proc/net/tcp lists them all, and reading it for every connection makes a storm of connections worse.
func inodeOf(own, other *net.TCPAddr) (string, error) {
	const netlinkSockDiag, byFamily = 4, 20
	src, dst := own.IP.To4(), other.IP.To4()
	if src == nil || dst == nil {
		return "", errors.New("not an IPv4 connection")
	}
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, netlinkSockDiag)
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	// A header, then the family, the protocol, two bytes of nothing, the states, and the socket: ports and addresses as on
	// the wire, the device, and a cookie of ones, which fits every socket.
	request := make([]byte, 16+56)
	host := binary.NativeEndian
	host.PutUint32(request[0:], uint32(len(request)))
	host.PutUint16(request[4:], byFamily)
	host.PutUint16(request[6:], syscall.NLM_F_REQUEST)
	request[16], request[17] = syscall.AF_INET, syscall.IPPROTO_TCP
	host.PutUint32(request[20:], 0xffffffff)
	binary.BigEndian.PutUint16(request[24:], uint16(own.Port))
	binary.BigEndian.PutUint16(request[26:], uint16(other.Port))
	copy(request[28:], src)
	copy(request[44:], dst)
	host.PutUint64(request[64:], ^uint64(0))
	if err := syscall.Sendto(fd, request, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return "", err
	}
	answer := make([]byte, 4096)
	n, _, err := syscall.Recvfrom(fd, answer, 0)
	if err != nil {
		return "", err
	}
	if n < 88 || host.Uint16(answer[4:]) != byFamily {
		return "", fmt.Errorf("no socket from %v to %v", own, other)
	}
	return fmt.Sprint(host.Uint32(answer[84:])), nil
}
