package diff

import (
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Protobuf's text format doubles the space between fields or does not, by a hash of the binary that prints. What one
// build of etcd answers must therefore equal what another does, and nothing more may be forgiven.
func TestPrintedAlarms(t *testing.T) {
	status := func(text string) []Fact { return Message(&etcdserverpb.StatusResponse{Errors: []string{text}}) }
	one := status("memberID:7 alarm:NOSPACE")
	if d := Compare(status("memberID:7  alarm:NOSPACE"), one); len(d) != 0 {
		t.Errorf("two spaces and one differ: %v", d)
	}
	for _, other := range []string{"memberID:7 alarm:CORRUPT", "memberID:7alarm:NOSPACE", "memberID:8  alarm:NOSPACE", ""} {
		if d := Compare(status(other), one); len(d) == 0 {
			t.Errorf("%q equals %q", other, "memberID:7 alarm:NOSPACE")
		}
	}
}
