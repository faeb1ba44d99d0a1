package snapshot

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// A file goes over the network as chunks: four bytes of length, four of CRC-32C, both big-endian, and so many bytes. A chunk of
// length 0, without a checksum, is the end. So a connection that breaks is told from a file that ends, and a byte that
// changes on the way is found where it is, not after everything was sent.
const chunkBytes = 256 << 10

// writeChunks writes everything that r has.
func writeChunks(w io.Writer, r io.Reader) error {
	b := make([]byte, 8+chunkBytes)
	for {
		n, err := io.ReadFull(r, b[8:])
		if n > 0 {
			binary.BigEndian.PutUint32(b, uint32(n))
			binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:8+n], castagnoli))
			if _, err := w.Write(b[:8+n]); err != nil {
				return fmt.Errorf("snapshot: send a chunk: %w", err)
			}
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			_, err := w.Write([]byte{0, 0, 0, 0})
			return err
		default:
			return fmt.Errorf("snapshot: read a chunk: %w", err)
		}
	}
}

// readChunks gives every chunk to take, which must not keep it, until the end.
func readChunks(r io.Reader, take func(chunk []byte) error) error {
	b := make([]byte, chunkBytes)
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:4]); err != nil {
			return fmt.Errorf("snapshot: the connection broke before the end of a file: %w", err)
		}
		n := binary.BigEndian.Uint32(head[:])
		if n == 0 {
			return nil
		}
		if n > chunkBytes {
			return fmt.Errorf("snapshot: a chunk of %d bytes is announced, more than the %d that one may have: the connection is out of step", n, chunkBytes)
		}
		if _, err := io.ReadFull(r, head[4:]); err != nil {
			return fmt.Errorf("snapshot: the connection broke within a chunk: %w", err)
		}
		if _, err := io.ReadFull(r, b[:n]); err != nil {
			return fmt.Errorf("snapshot: the connection broke within a chunk: %w", err)
		}
		if sum := crc32.Checksum(b[:n], castagnoli); sum != binary.BigEndian.Uint32(head[4:]) {
			return fmt.Errorf("snapshot: a chunk of %d bytes has checksum %08x where %08x was sent: it changed on the way", n, sum, binary.BigEndian.Uint32(head[4:]))
		}
		if err := take(b[:n]); err != nil {
			return err
		}
	}
}
