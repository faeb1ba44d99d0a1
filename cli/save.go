package cli

import "context"

// SaveSnapshot saves a snapshot of the one endpoint of this session to a file, which appears only when the hash at its end was found
// right. It returns the version of the server's data, "" when it did not say.
func (s *Session) SaveSnapshot(ctx context.Context, path string) (version string, err error) {
	if _, err := s.Spec(); err != nil {
		return "", err
	}
	return s.saveSnapshot(ctx, path)
}
