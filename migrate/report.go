package migrate

// Report says what a migration has read and written. Its JSON is for programs: fields are only added.
type Report struct {
	Source      SourceReport  `json:"source"`
	Read        ReadReport    `json:"read"`
	Skipped     SkippedReport `json:"skipped"`
	Written     WrittenReport `json:"written"`
	TTL         string        `json:"ttl"`         // permanent, drop or lease
	Transformer string        `json:"transformer"` // "default" or the program
	Destination string        `json:"destination"` // what Kind.String says
	Path        string        `json:"path,omitempty"`
	DryRun      bool          `json:"dryRun"`
	Verified    int64         `json:"verified"` // records that were read back from the destination and compared; all, or it fails
}

// SourceReport says what the directory is.
type SourceReport struct {
	DataDir       string `json:"dataDir"`
	Member        string `json:"member"`        // hexadecimal
	Cluster       string `json:"cluster"`       // hexadecimal
	SnapshotIndex uint64 `json:"snapshotIndex"` // of the newest .snap file, 0 when there is none
	Entries       int64  `json:"entries"`       // of the log behind it
	Uncommitted   uint64 `json:"uncommitted"`   // of those, how many this member did not know to be committed
	RaftIndex     uint64 `json:"raftIndex"`     // of the last
	V2Index       uint64 `json:"v2Index"`       // X-Etcd-Index
	Others        int64  `json:"v3Records"`     // of the v3 API, which are not migrated
	V2Auth        int64  `json:"v2Auth"`        // users and roles of the v2 API, which are not migrated
}

// ReadReport counts what the tree holds.
type ReadReport struct {
	Keys        int64    `json:"keys"`        // hidden ones not counted
	Directories int64    `json:"directories"` // the root not counted
	Hidden      int64    `json:"hiddenKeys"`
	HiddenNames []string `json:"hiddenNames,omitempty"` // the first ones
	TTL         int64    `json:"ttlKeys"`               // with a time of their own
	InTTL       int64    `json:"keysInTTLDirectories"`  // without one
	Expired     int64    `json:"expiredKeys"`           // among those two, whose time was over
	NotUTF8     int64    `json:"notUTF8"`
}

// SkippedReport counts what was not written, and why. A program's choices are not known and not in it.
type SkippedReport struct {
	Directories int64 `json:"directories"`
	TTL         int64 `json:"ttlKeys"`
	Hidden      int64 `json:"hiddenKeys"`
	Clashes     int64 `json:"clashes"`
}

// WrittenReport counts what was written, or would be in a dry run.
type WrittenReport struct {
	Keys     int64 `json:"keys"`
	Leases   int64 `json:"leases"`
	WithTTL  int64 `json:"keysWithLeases"`
	Revision int64 `json:"revision"` // of the store then
}

func (s *Source) report() SourceReport {
	v := s.survey
	r := SourceReport{DataDir: s.dir, Member: hex(v.Member), Cluster: hex(v.Cluster), SnapshotIndex: s.snap.GetMetadata().GetIndex(), RaftIndex: v.Last}
	if known := max(v.State.GetCommit(), r.SnapshotIndex); v.Last > known {
		r.Uncommitted = v.Last - known
	}
	return r
}

func (l *listing) report() ReadReport {
	return ReadReport{
		Keys: l.files, Directories: max(0, int64(len(l.items))-l.files-1), // the root is none of the user's
		Hidden: l.hidden, HiddenNames: l.hiddenNames,
		TTL: l.ttl, InTTL: l.below, Expired: l.gone, NotUTF8: l.odd,
	}
}
