package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// grave is what no flaky test speaks of: it may be the only sight of a mistake that loses data.
var grave = regexp.MustCompile(`BUG:|(?i:lost|linearizab|diverge)`)

// failure is a test that failed and may be excused.
type failure struct {
	pkg, test string
	output    string
	runs      int
	took      time.Duration
}

// verdict is the failures, or why they are not excused.
func (s *stream) verdict() (list []failure, why string) {
	if s.unwell != "" {
		return nil, s.unwell
	}
	for _, p := range s.failed {
		found, why := p.failures()
		if why != "" {
			return nil, p.name + ": " + why
		}
		list = append(list, found...)
	}
	switch {
	case len(list) == 0:
		return nil, "go test failed and no test did"
	case len(list) > excusedMax:
		return nil, fmt.Sprintf("%d tests failed; of more than %d at a time none is run again", len(list), excusedMax)
	}
	return list, ""
}

func (p *result) failures() (list []failure, why string) {
	if p.unwell != "" {
		return nil, p.unwell
	}
	if found := grave.FindString(p.own.String()); found != "" {
		return nil, fmt.Sprintf("its output has %q", found)
	}
	for _, t := range p.order {
		if t.end == "" {
			return nil, t.name + " did not end"
		}
		if t.end != "fail" || strings.Contains(t.name, "/") {
			continue
		}
		var all strings.Builder
		for _, part := range p.order {
			if part == t || strings.HasPrefix(part.name, t.name+"/") {
				all.WriteString(part.shown())
			}
		}
		if found := grave.FindString(all.String()); found != "" {
			return nil, fmt.Sprintf("%s says %q", t.name, found)
		}
		if !strings.HasPrefix(t.name, "Test") {
			return nil, t.name + " is not a test of that kind"
		}
		list = append(list, failure{pkg: p.name, test: t.name, output: all.String()})
	}
	if len(list) == 0 {
		return nil, "it failed, and none of its tests did"
	}
	return list, ""
}

// test runs go test, and again what failed. It returns the exit code and, if something was excused, the text that says so.
func (r *runner) test(args []string) (code int, report string, err error) {
	a := parse(args)
	s := &stream{out: r.out, verbose: a.verbose}
	err = r.run(s, append([]string{"test", "-json"}, args...))
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		return 1, "", err
	}
	if err == nil && len(s.failed) == 0 && s.unwell == "" {
		return 0, "", nil
	}
	fmt.Fprintln(r.out, "FAIL")
	list, why := s.verdict()
	if why != "" {
		fmt.Fprintln(r.out, "\nnothing is run again:", why)
		return 1, "", nil
	}
	for i := range list {
		if !r.passes(a, &list[i]) {
			return 1, "", nil
		}
	}
	return 0, describe(list), nil
}

func (r *runner) command(args []string) *exec.Cmd {
	c := exec.CommandContext(r.ctx, "go", args...)
	c.Dir, c.Stderr = r.dir, r.errors
	return c
}

// run runs the go command and reads its events.
func (r *runner) run(s *stream, args []string) error {
	c := r.command(args)
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	if err := s.read(out); err != nil {
		_ = c.Wait()
		return fmt.Errorf("read what go test says: %w", err)
	}
	return c.Wait()
}

// passes runs a test alone until it has passed often enough, or has not.
func (r *runner) passes(a arguments, f *failure) bool {
	begin := r.clock.Now()
	fmt.Fprintf(r.out, "\nrun again alone: %s %s\n", f.pkg, f.test)
	for f.runs < r.wanted && (f.runs < runsLeast || r.clock.Now().Sub(begin) < runsAtMost) {
		var said bytes.Buffer
		s := &stream{out: &said}
		err := r.run(s, a.alone(f.pkg, f.test))
		if passed := s.passed; err != nil || passed != 1 {
			fmt.Fprintf(r.out, "%srun %d of %s alone: %v, %d tests passed; it is not excused\n", said.String(), f.runs+1, f.test, err, passed)
			return false
		}
		f.runs++
	}
	f.took = r.clock.Now().Sub(begin).Round(time.Second)
	return true
}

// describe is what stands at the end of the output.
func describe(list []failure) string {
	var b strings.Builder
	rule := strings.Repeat("!", 120) + "\n"
	b.WriteString("\n" + rule)
	for _, f := range list {
		fmt.Fprintf(&b, "FLAKY: %s %s failed, and then passed %d of %d runs by itself in %v. The failure was:\n\n%s\n", f.pkg, f.test, f.runs, f.runs, f.took, f.output)
	}
	b.WriteString("FLAKY: this is excused once, and is to be mended: find out why it failed, and have the test assert what holds always.\n" + rule)
	return b.String()
}
