package archtest

import (
	"go/ast"
	"strings"
)

// The size budget. Functions of tests may be longer, tables of cases are.
const (
	functionLines    = 70
	fileLines        = 800
	structFields     = 15
	interfaceMethods = 5
)

func checkSizes(p *Package) []Finding {
	var out []Finding
	for _, f := range p.Files {
		if f.Test {
			continue
		}
		if f.Lines > fileLines {
			out = append(out, Finding{Rule: "file", File: f.Name, Line: 1, Name: "-", Value: f.Lines,
				Text: "longer than 800 lines: split it by what a reader looks for"})
		}
		for _, d := range f.AST.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if n := f.line(d.End()) - f.line(d.Pos()) + 1; n > functionLines {
					out = append(out, Finding{Rule: "function", File: f.Name, Line: f.line(d.Pos()), Name: funcName(d), Value: n,
						Text: "longer than 70 lines: give its steps names"})
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if t, ok := s.(*ast.TypeSpec); ok {
						out = append(out, typeSize(f, t)...)
					}
				}
			}
		}
	}
	return out
}

func typeSize(f *File, t *ast.TypeSpec) []Finding {
	switch x := t.Type.(type) {
	case *ast.StructType:
		if n := fields(x.Fields); n > structFields {
			return []Finding{{Rule: "struct", File: f.Name, Line: f.line(t.Pos()), Name: t.Name.Name, Value: n,
				Text: "more than 15 fields: it has more than one job"}}
		}
	case *ast.InterfaceType:
		if n := fields(x.Methods); n > interfaceMethods {
			return []Finding{{Rule: "interface", File: f.Name, Line: f.line(t.Pos()), Name: t.Name.Name, Value: n,
				Text: "more than 5 methods: declare what the consumer needs"}}
		}
	}
	return nil
}

func fields(l *ast.FieldList) int {
	n := 0
	for _, f := range l.List {
		n += max(1, len(f.Names))
	}
	return n
}

func funcName(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return d.Name.Name
	}
	t := d.Recv.List[0].Type
	if s, ok := t.(*ast.StarExpr); ok {
		t = s.X
	}
	if x, ok := t.(*ast.IndexExpr); ok {
		t = x.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name + "." + d.Name.Name
	}
	return d.Name.Name
}

// checkDocs wants one package comment per package and a comment on every exported name.
func checkDocs(p *Package) []Finding {
	var out []Finding
	comments, code := 0, 0
	var first *File
	for _, f := range p.Files {
		if f.Test {
			continue
		}
		code++
		if first == nil {
			first = f
		}
		if f.AST.Doc != nil && strings.HasPrefix(f.AST.Doc.Text(), docPrefix(f.AST.Name.Name)) {
			comments++
		}
		for _, d := range f.AST.Decls {
			out = append(out, undocumented(f, d)...)
		}
	}
	if code > 0 && comments != 1 {
		out = append(out, Finding{Rule: "doc", File: first.Name, Line: 1, Name: p.Path, Value: comments,
			Text: "wants exactly one package comment, beginning with its name: purpose, what it is not, how data passes, invariants"})
	}
	return out
}

func docPrefix(name string) string {
	if name == "main" {
		return "Command "
	}
	return "Package " + name
}

func undocumented(f *File, d ast.Decl) []Finding {
	miss := func(n ast.Node, name string) Finding {
		return Finding{Rule: "doc", File: f.Name, Line: f.line(n.Pos()), Name: name, Text: "exported and not documented"}
	}
	var out []Finding
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !selfEvident[d.Name.Name] {
			out = append(out, miss(d, funcName(d)))
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					out = append(out, miss(s, s.Name.Name))
				}
			case *ast.ValueSpec:
				if s.Names[0].IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					out = append(out, miss(s, s.Names[0].Name))
				}
			}
		}
	}
	return out
}

// selfEvident methods have the meaning that their interface gives them.
var selfEvident = map[string]bool{
	"Error": true, "String": true, "Unwrap": true, "Size": true, "Append": true, "Unmarshal": true, "Len": true,
	"Less": true, "Swap": true, "Write": true, "Read": true, "Describe": true, "Collect": true, "Header": true,
	"WriteHeader": true, "ServeHTTP": true, "Complete": true,
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	name, _, _ := strings.Cut(funcName(d), ".")
	return ast.IsExported(name)
}
