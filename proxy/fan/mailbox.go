package fan

import "sync"

// letterKind is what a letter to a feed is about.
type letterKind uint8

const (
	letterMessage  letterKind = iota // from the store: link, at, size
	letterEnd                        // link, err
	letterJoin                       // session
	letterLeave                      // session
	letterRequest                    // session, request
	letterWritable                   // session
	letterStop
)

// letter is something that a feed has to look at.
type letter struct {
	kind     letterKind
	link     *link
	session  *session
	request  *request
	err      error
	at, size int // of a message, in letters.bytes
}

// letters are what came since the feed looked last, in order.
type letters struct {
	list  []letter
	bytes []byte // of messages
}

// mailbox is the only way to a feed. What it holds is bounded by who writes: a link's messages by the receive window that the
// feed gives back, a session's requests by its slots.
type mailbox struct {
	mu    sync.Mutex
	in    letters
	ready chan struct{} // holds a token when there is something
}

func (m *mailbox) post(l letter) {
	m.mu.Lock()
	m.in.list = append(m.in.list, l)
	m.mu.Unlock()
	m.wake()
}

func (m *mailbox) wake() {
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// message posts a message of the store, which it copies.
func (m *mailbox) message(l *link, body []byte) {
	m.mu.Lock()
	m.in.list = append(m.in.list, letter{kind: letterMessage, link: l, at: len(m.in.bytes), size: len(body)})
	m.in.bytes = append(m.in.bytes, body...)
	m.mu.Unlock()
	m.wake()
}

// take exchanges what has come for read, which was taken before and is empty from now on.
func (m *mailbox) take(read letters) letters {
	clear(read.list)
	read.list, read.bytes = read.list[:0], read.bytes[:0]
	if cap(read.bytes) > letterBytesMax {
		read.bytes = nil
	}
	m.mu.Lock()
	out := m.in
	m.in = read
	m.mu.Unlock()
	return out
}

func (l *letters) body(x *letter) []byte { return l.bytes[x.at : x.at+x.size : x.at+x.size] }
