package peer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"quorate.dev/quorate/ids"
)

// Ask sends a request of any method and kind of body to a member and returns the status and at most limit bytes of the answer.
func (t *Transport) Ask(ctx context.Context, method string, to ids.MemberID, path, kind string, body []byte, limit int64) (int, []byte, error) {
	r := t.remote(to)
	if r == nil {
		return 0, nil, fmt.Errorf("peer: member %s is not known", to)
	}
	url := r.url()
	req, err := http.NewRequestWithContext(ctx, method, url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("peer: the address %q of member %s: %w", url, to, err)
	}
	t.identify(req.Header)
	req.Header.Set("Content-Type", kind)
	resp, err := t.calls.RoundTrip(req)
	if err != nil {
		r.avoid(url)
		return 0, nil, fmt.Errorf("peer: ask member %s for %s: %w", to, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil {
		return 0, nil, fmt.Errorf("peer: read what member %s answers to %s: %w", to, path, err)
	}
	return resp.StatusCode, answer, nil
}
