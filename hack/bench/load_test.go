package main

import (
	"encoding/json"
	"testing"
)

func TestSeedIsCopied(t *testing.T) {
	var s seed
	if err := json.Unmarshal([]byte(`{"schema":1,"name":"known","id":"known.x","pool":"p"}`), &s); err != nil {
		t.Fatal(err)
	}
	c, err := s.named("other")
	if err != nil {
		t.Fatal(err)
	}
	if want := "dvol/records/volumes/d9/other"; c.Key != want || c.Verb != "set" {
		t.Errorf("the change is to %s %s, want to set %s", c.Verb, c.Key, want)
	}
	var copied struct{ Name, ID, Pool string }
	if err := json.Unmarshal(c.Value, &copied); err != nil {
		t.Fatal(err)
	}
	if copied.Name != "other" || copied.ID != "other.0123456789ab" || copied.Pool != "p" {
		t.Errorf("the copy is %+v", copied)
	}
	if string(s["name"]) != `"known"` {
		t.Errorf("the seed has become %s", s["name"])
	}
}
