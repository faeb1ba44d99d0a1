package arena

// Copies keeps copies of byte strings for others, who hold them as long as they like. Strings copied one after the other lie
// together and are let go together when the last of them is: it is for those whose holders let go in about the order of
// the copying. Without it each would be an object of its own.
type Copies struct {
	room  []byte
	bytes int
}

// copiesLarge is the share of what lies together above which a string is by itself.
const copiesLarge = 8

// NewCopies makes copies that lie together in pieces of so many bytes.
func NewCopies(bytes int) *Copies { return &Copies{bytes: bytes} }

// Of returns a copy of b, nil for nil.
func (c *Copies) Of(b []byte) []byte {
	n := len(b)
	if n == 0 {
		return b[:0:0]
	}
	if n > c.bytes/copiesLarge {
		return append(make([]byte, 0, n), b...)
	}
	if n > len(c.room) {
		c.room = make([]byte, c.bytes)
	}
	copy(c.room, b)
	out := c.room[:n:n]
	c.room = c.room[n:]
	return out
}
