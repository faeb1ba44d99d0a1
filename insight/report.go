package insight

// The paths of what a member tells operators, on the client port. While authentication is enabled they need the role root.
const (
	PathReport = "/quorate/report"
	PathTop    = "/quorate/top"
)

// Report is the answer of GET /quorate/report: what a member knows of itself that metrics do not say.
type Report struct {
	Member       string        `json:"member"` // id, hexadecimal
	Name         string        `json:"name"`
	Cluster      string        `json:"cluster"`  // id, hexadecimal
	Time         int64         `json:"time"`     // the member's clock when it answered, nanoseconds since 1970
	Started      int64         `json:"started"`  // when the member started, nanoseconds since 1970
	Settings     []Setting     `json:"settings"` // all of them, secrets masked
	Certificates []Certificate `json:"certificates"`
	Sizes        []Size        `json:"sizes"` // of the past, oldest first, limits.SizeEvery apart
}

// Setting is one setting of the member.
type Setting struct {
	Name   string `json:"name"` // the flag
	Value  string `json:"value"`
	Origin string `json:"origin"`          // "default", "flag", "env", "file" or "program"
	State  string `json:"state,omitempty"` // what the member does with it, "" when it does what it says
	Why    string `json:"why,omitempty"`   // the reason for that
}

// Certificate is what one file of certificates holds.
type Certificate struct {
	Side     string `json:"side"` // "client" or "peer"
	What     string `json:"what"`
	File     string `json:"file"`
	NotAfter int64  `json:"notAfter"` // seconds since 1970
}

// Size is how much the store held at one moment.
type Size struct {
	Time     int64 `json:"time"`     // seconds since 1970
	Retained int64 `json:"retained"` // bytes that the quota counts
	Keys     int64 `json:"keys"`
}

// Setting is the setting of that name; ok is false when the member has none.
func (r *Report) Setting(name string) (s Setting, ok bool) {
	for _, s := range r.Settings {
		if s.Name == name {
			return s, true
		}
	}
	return Setting{}, false
}
