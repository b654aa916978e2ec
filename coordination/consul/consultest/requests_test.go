package consultest_test

import (
	"net/http/httptest"
	"testing"

	"github.com/dvol/dvold/coordination/consul/consultest"
)

func TestKindsOfRequests(t *testing.T) {
	for _, tt := range []struct {
		method, url string
		want        consultest.Kind
	}{
		{"PUT", "/v1/session/renew/0a1b", consultest.Renewal},
		{"GET", "/v1/kv/dvol/hosts/h1?index=7&wait=10000ms", consultest.Waiting},
		{"GET", "/v1/kv/dvol/hosts/h1?consistent", consultest.Reading},
		{"PUT", "/v1/txn?consistent=", consultest.Writing},
	} {
		if got := consultest.KindOf(httptest.NewRequest(tt.method, tt.url, nil)); got != tt.want {
			t.Errorf("%s %s counts among %s, want %s", tt.method, tt.url, got, tt.want)
		}
	}
}
