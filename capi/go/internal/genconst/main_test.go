package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestTheCommittedConstantsAreTheHeaders(t *testing.T) {
	header, err := os.ReadFile("../../../include/appxmpp.h")
	if err != nil {
		t.Fatal(err)
	}
	want, err := Generate(header)
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../../constants.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Error("constants.go is out of date: run `go generate` in capi/go")
	}
	changed := bytes.Replace(header, []byte("APPXMPP_TIMEOUT = 11"), []byte("APPXMPP_TIMEOUT = 12"), 1)
	if other, err := Generate(changed); err != nil || bytes.Equal(other, want) {
		t.Errorf("another number in the header makes no difference (%v)", err)
	}
}

func TestNamesNumbersAndComments(t *testing.T) {
	source, err := Generate([]byte("// The kind.\n#define APPXMPP_IQ 3\n\ntypedef enum {\n  // Bad.\n  // Fix it.\n" +
		"  APPXMPP_INVALID_JID = 1,\n} appxmpp_result;\n#define APPXMPP_NUL SIZE_MAX\n#define APPXMPP_SHOW_UNKNOWN -1\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"\t// Bad.\n\t// Fix it.\n\tCodeInvalidJID Code = 1\n", "\tCodeInvalidJID: \"INVALID_JID\",\n",
		"\t// The kind.\n\tiQ          = 3\n", "showUnknown = -1",
	} {
		if !strings.Contains(string(source), line) {
			t.Errorf("%q is not in\n%s", line, source)
		}
	}
	if strings.Contains(string(source), "SIZE_MAX") {
		t.Error("what is no number became a constant")
	}
}

func TestAnotherHeaderIsRefused(t *testing.T) {
	if _, err := Generate([]byte("#include <stdio.h>\n")); err == nil {
		t.Error("a header without results was accepted")
	}
}
