package upstream

import (
	"slices"
	"strconv"
	"strings"

	"quorate.dev/quorate/load/lean"
)

// Sharing is what streams of different clients must have in common to share a stream to the store: a key that is equal for
// equal credentials and demands only, and the metadata to send. The version of a client is no such thing.
func Sharing(meta []lean.Field) (key string, send []lean.Field) {
	send = slices.DeleteFunc(slices.Clone(meta), func(f lean.Field) bool { return f.Name == "client-api-version" })
	slices.SortStableFunc(send, func(a, b lean.Field) int { return strings.Compare(a.Name, b.Name) })
	var b strings.Builder
	for _, f := range send {
		// Names have no '=' or ':', and a value's length says where it ends, whatever it holds.
		b.WriteString(f.Name + "=" + strconv.Itoa(len(f.Value)) + ":" + f.Value)
	}
	return b.String(), send
}
