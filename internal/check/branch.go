package check

// branch is the branch of a transaction that its conditions choose.
func (r *Request) branch(succeeded bool) []Request {
	if succeeded {
		return r.Then
	}
	return r.Else
}

// part is the answer to one request of a branch, an empty one if there is none.
func (a *Answer) part(i int) *Answer {
	if i < len(a.Parts) {
		return &a.Parts[i]
	}
	return &Answer{}
}

// leaves are the requests that were carried out, with their answers: those of the branches that were taken, for a transaction.
func leaves(r *Request, a *Answer) (requests []Request, answers []*Answer) {
	if r.Kind != Txn {
		return []Request{*r}, []*Answer{a}
	}
	branch := r.branch(a.Succeeded)
	for i := range branch {
		qs, as := leaves(&branch[i], a.part(i))
		requests, answers = append(requests, qs...), append(answers, as...)
	}
	return requests, answers
}

// ways are all lists of requests that may be carried out, one for each choice of branches.
func ways(requests []Request) [][]Request {
	all := [][]Request{nil}
	for i := range requests {
		r, parts := &requests[i], [][]Request{{requests[i]}}
		if r.Kind == Txn {
			parts = append(ways(r.Then), ways(r.Else)...)
		}
		var longer [][]Request
		for _, way := range all {
			for _, part := range parts {
				longer = append(longer, append(way[:len(way):len(way)], part...))
			}
		}
		all = longer
	}
	return all
}

// each calls f for a request and all that are in it.
func (r *Request) each(f func(*Request)) {
	f(r)
	for i := range r.Then {
		r.Then[i].each(f)
	}
	for i := range r.Else {
		r.Else[i].each(f)
	}
}

// decide appends the branches that r and the transactions in it take, in the order in which they are carried out. All are
// chosen before anything is changed.
func (s *state) decide(path []bool, r *Request) []bool {
	ok := true
	for _, c := range r.If {
		ok = ok && c.holds(s.keys)
	}
	path = append(path, ok)
	branch := r.branch(ok)
	for i := range branch {
		if branch[i].Kind == Txn {
			path = s.decide(path, &branch[i])
		}
	}
	return path
}

// admit says what refuses a transaction that takes these branches, in the order of its operations.
func (s *state) admit(r *Request, path []bool) (rest []bool, refusal string) {
	branch := r.branch(path[0])
	rest = path[1:]
	for i := range branch {
		switch part := &branch[i]; {
		case part.Kind == Txn:
			rest, refusal = s.admit(part, rest)
		case part.Kind == Put && part.Lease != 0 && !s.alive(part.Lease):
			refusal = LeaseNotFound
		case part.Kind == Range && part.Revision > s.rev:
			refusal = FutureRev
		case part.Kind == Range && part.Revision != 0 && part.Revision < s.compacted:
			refusal = Compacted
		}
		if refusal != "" {
			return nil, refusal
		}
	}
	return rest, ""
}

// carryOut does the operations on a path.
func (w *writer) carryOut(r *Request, path []bool) (a Answer, rest []bool) {
	a.Succeeded = path[0]
	branch := r.branch(path[0])
	rest = path[1:]
	for i := range branch {
		var part Answer
		switch branch[i].Kind {
		case Put:
			part = w.put(branch[i])
		case Delete:
			part = w.delete(branch[i])
		case Txn:
			part, rest = w.carryOut(&branch[i], rest)
		default:
			part = w.state.read(branch[i])
		}
		a.Parts = append(a.Parts, part)
	}
	return a, rest
}

// oldest is the oldest revision that a request reads at, Never if none is given.
func (r *Request) oldest() int64 {
	at := Never
	r.each(func(part *Request) {
		if part.Kind == Range && part.Revision != 0 {
			at = min(at, part.Revision)
		}
	})
	return at
}
