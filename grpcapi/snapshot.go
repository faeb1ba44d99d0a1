package grpcapi

import (
	"context"
	"crypto/sha256"
	"io"
	"os"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/internal/etcddb"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/rpc"
)

// handleSnapshot sends the store as a file in etcd's own format, in blobs, and then the file's SHA-256. The file is laid
// out on disk first: its size is in the first message, and a slow client must not hold the engine's image open.
func (v *Services) handleSnapshot(st *rpc.Stream, _ *door) *rpc.Status {
	if _, status := one(st); status != nil {
		return status
	}
	file, err := v.layOut(st.Context())
	if err != nil {
		return statusOf(err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := v.sendFile(st, file); err != nil {
		return statusOf(err)
	}
	return nil
}

// layOut writes the present state to a temporary file, positioned at its start.
func (v *Services) layOut(ctx context.Context) (*os.File, error) {
	file, err := os.CreateTemp(v.Settings.TempDir, "snapshot-*.db")
	if err != nil {
		return nil, err
	}
	image := v.Store.Image()
	defer image.Close()
	if err := etcddb.ExportWith(ctx, image.Frozen, file.Name(), nil); err != nil {
		_ = file.Close()
		_ = os.Remove(file.Name())
		return nil, err
	}
	return file, nil
}

func (v *Services) sendFile(st *rpc.Stream, file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	left := info.Size()
	sum := sha256.New()
	buf := make([]byte, limits.SnapshotChunkBytes)
	resp := &etcdserverpb.SnapshotResponse{Version: v.Settings.StorageVersion}
	send := func(blob []byte) error {
		resp.RemainingBytes, resp.Blob = uint64(left), blob
		b, err := proto.Marshal(resp)
		if err != nil {
			return err
		}
		return st.Send(rpc.RawMessage(b))
	}
	for left > 0 {
		n, err := io.ReadFull(file, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return err
		}
		left -= int64(n)
		sum.Write(buf[:n])
		if err := send(buf[:n]); err != nil {
			return err
		}
	}
	return send(sum.Sum(nil))
}
