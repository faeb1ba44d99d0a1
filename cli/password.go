package cli

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/term"
)

// askPassword shows a prompt and reads a line, without echo where a person types it.
func (s *Session) askPassword(prompt string) (string, error) {
	fmt.Fprint(s.Process.Stdout, prompt)
	defer fmt.Fprintln(s.Process.Stdout)
	f := s.stdinFile()
	if f == nil {
		line, err := readLine(s.stdin())
		if err != nil {
			return "", fmt.Errorf("failed during password entry: %w", err)
		}
		return strings.TrimSpace(line), nil
	}
	before, err := term.GetState(int(f.Fd()))
	if err != nil {
		return "", fmt.Errorf("failed turning off console echo for password entry: %w", err)
	}
	type answer struct {
		text []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		text, err := term.ReadPassword(int(f.Fd()))
		answers <- answer{text, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			return "", fmt.Errorf("failed during password entry: %w", a.err)
		}
		return strings.TrimSpace(string(a.text)), nil
	case <-s.Process.Context.Done():
		_ = term.Restore(int(f.Fd()), before) // the terminal shall not stay without echo
		return "", context.Cause(s.Process.Context)
	}
}
