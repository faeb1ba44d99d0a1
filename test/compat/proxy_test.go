package compat

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"quorate.dev/quorate/test/compat/proc"
	"quorate.dev/quorate/test/compat/script"
)

// throughFront asks the server behind t by way of a proxy, also after a restart.
func throughFront(t *script.Target, front *grpc.ClientConn) *script.Target {
	restart := t.Restart
	t.Conn = front
	t.Restart = func() (*grpc.ClientConn, error) {
		_, err := restart()
		return front, err
	}
	return t
}

// startProxy starts "quorate proxy" in front of p's other server.
func startProxy(t *testing.T, p *pair) {
	t.Helper()
	bin, err := proc.Binary(proc.Quorate)
	if err != nil {
		t.Fatal(err)
	}
	ports, err := proc.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", ports[0])
	cmd := exec.Command(bin, "proxy", "--endpoints", p.other.Addr, "--listen-addr", address, "--advertise-client-url=", "--max-send-bytes=2147483647")
	ended, err := proc.Spawn(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-ended
	})
	p.front, err = grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.front.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := pb.NewKVClient(p.front).Range(ctx, &pb.RangeRequest{Key: []byte("compat-ready")}, grpc.WaitForReady(true)); err != nil {
		t.Fatalf("the proxy does not answer: %v", err)
	}
}

// TestThroughProxy runs the scenarios that share servers against Quorate behind its proxy: who asks through a proxy is answered
// as who asks etcd.
func TestThroughProxy(t *testing.T) {
	cases, err := script.Load("testdata/*.case")
	if err != nil {
		t.Fatal(err)
	}
	runShared(t, cases, func(t *testing.T) *pair {
		p := startPair(t, proc.Quorate, "--unsafe-no-fsync")
		startProxy(t, p)
		return p
	})
}
