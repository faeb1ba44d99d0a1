package lean

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// TestHeaderDecoderAgrees: however the table changes between blocks, a kept block never stands for what it no longer means.
func TestHeaderDecoderAgrees(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	var d headerDecoder
	d.init()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	hits := 0
	for i := range 20_000 {
		want := fields{http: "200", status: fmt.Sprint(r.IntN(3)), message: strings.Repeat("m", r.IntN(3))}
		block.Reset()
		list := []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "grpc-status", Value: want.status}, {Name: "grpc-message", Value: want.message}}
		if r.IntN(50) == 0 { // something new moves every index, and may push old fields out
			list = append(list, hpack.HeaderField{Name: "x-new", Value: fmt.Sprint(i, strings.Repeat("n", r.IntN(800)))})
		}
		for _, f := range list {
			if err := enc.WriteField(f); err != nil {
				t.Fatal(err)
			}
		}
		if indexed(block.Bytes()) {
			hits++
		}
		got, err := d.decode(block.Bytes())
		if err != nil || got.http != want.http || got.status != want.status || got.message != want.message {
			t.Fatalf("block %d: %+v %v, want %+v", i, got, err, want)
		}
	}
	if hits < 10_000 {
		t.Errorf("only %d blocks could be kept: the test tests nothing", hits)
	}
}
