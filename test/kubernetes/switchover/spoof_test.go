package switchover

import "net/http"

type spoofed struct {
	next    http.RoundTripper
	headers []string
}

// spoof adds the headers by which a front proxy says who a client is: a user and a group.
func spoof(who []string) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper { return spoofed{next, who} }
}

func (s spoofed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Remote-User", s.headers[0])
	r.Header.Set("X-Remote-Group", s.headers[1])
	r.Header.Set("X-Remote-Extra-Scopes", "all")
	return s.next.RoundTrip(r)
}
