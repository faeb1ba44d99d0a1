package v2store

// Mode says how the store and the v3 keys live together.
type Mode uint8

// The modes.
const (
	Separate Mode = iota // two stores under one roof, as in etcd 3.0 to 3.5
	Shared               // the files below /1 and the v3 keys of the same names are the same
)

// The values that a MODE request may have, and how modes are written.
const (
	modeSeparate = "separate"
	modeShared   = "shared"
)

// String is "separate" or "shared".
func (m Mode) String() string {
	if m == Shared {
		return modeShared
	}
	return modeSeparate
}

// Stats counts the requests of a store's life. JSON names are etcd's. Gets that do not pass through the log, and watchers, are
// not the store's: whoever serves them adds them.
type Stats struct {
	Counts
	Watchers uint64 `json:"watchers"`
}

// Counts are the numbers of Stats that the store keeps.
type Counts struct {
	GetsSuccess             uint64 `json:"getsSuccess"`
	GetsFail                uint64 `json:"getsFail"`
	SetsSuccess             uint64 `json:"setsSuccess"`
	SetsFail                uint64 `json:"setsFail"`
	DeleteSuccess           uint64 `json:"deleteSuccess"`
	DeleteFail              uint64 `json:"deleteFail"`
	CreateSuccess           uint64 `json:"createSuccess"`
	CreateFail              uint64 `json:"createFail"`
	UpdateSuccess           uint64 `json:"updateSuccess"`
	UpdateFail              uint64 `json:"updateFail"`
	CompareAndSwapSuccess   uint64 `json:"compareAndSwapSuccess"`
	CompareAndSwapFail      uint64 `json:"compareAndSwapFail"`
	CompareAndDeleteSuccess uint64 `json:"compareAndDeleteSuccess"`
	CompareAndDeleteFail    uint64 `json:"compareAndDeleteFail"`
	ExpireCount             uint64 `json:"expireCount"`
}

// all gives the numbers in the order of their rows.
func (c *Counts) all() [15]*uint64 {
	return [...]*uint64{
		&c.GetsSuccess, &c.GetsFail, &c.SetsSuccess, &c.SetsFail, &c.DeleteSuccess, &c.DeleteFail, &c.CreateSuccess, &c.CreateFail,
		&c.UpdateSuccess, &c.UpdateFail, &c.CompareAndSwapSuccess, &c.CompareAndSwapFail, &c.CompareAndDeleteSuccess,
		&c.CompareAndDeleteFail, &c.ExpireCount,
	}
}

// View is the store at one instant. It is immutable and for any goroutine.
type View struct {
	tree   nodes
	head   head
	bytes  int64
	next   int64
	events []*Event
}

// Index is etcd's index: that of the last change.
func (v *View) Index() uint64 { return v.head.index }

// Mode is the mode.
func (v *View) Mode() Mode { return v.head.mode }

// Bytes is what the quota counts: paths and values of all nodes, and of v3 keys that cannot be shown.
func (v *View) Bytes() int64 { return v.bytes }

// Len is the number of nodes, the three that always exist not counted.
func (v *View) Len() int { return v.tree.Len() - permanent }

// NextExpiry is the earliest time of expiration, Unix time in nanoseconds, 0 when nothing expires.
func (v *View) NextExpiry() int64 { return v.next }

// Stats are the numbers so far.
func (v *View) Stats() Stats { return Stats{Counts: v.head.counts} }

// History is the newest events, ascending and without gaps, at most limits.V2HistoryEvents. It is not to be changed.
func (v *View) History() []*Event { return v.events }

// Get reads a node. A directory comes with its children, a recursive one with all that is below it, but for hidden nodes. Listings are
// always sorted, whether that is asked for or not. now is Unix time in nanoseconds, for TTLs.
func (v *View) Get(p string, recursive, sorted bool, now int64) (*Event, error) {
	_ = sorted
	e, err := v.get(p, recursive, now)
	if err != nil {
		return nil, err
	}
	return e, nil
}

func (v *View) get(p string, recursive bool, now int64) (*Event, *Error) {
	n, err := v.tree.find(Clean(p), v.head.index)
	if err != nil {
		return nil, err
	}
	s := n.shown(now)
	if n.dir {
		s.Nodes = v.list(n.path, recursive, now)
	}
	return &Event{Action: ActionGet, Node: s, Index: v.head.index}, nil
}

func (v *View) list(dir string, recursive bool, now int64) []*Node {
	var list []*Node
	v.tree.children(dir, func(n *node) {
		if Hidden(n.path) {
			return
		}
		s := n.shown(now)
		if n.dir && recursive {
			s.Nodes = v.list(n.path, true, now)
		}
		list = append(list, s)
	})
	return list
}

// Files calls f with every file below a path, hidden ones too, in order of paths, until it says no.
func (v *View) Files(p string, f func(path, value string) bool) {
	v.tree.below(Clean(p), func(n *node) bool { return n.dir || f(n.path, n.value) })
}
