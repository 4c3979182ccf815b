package api

import (
	"encoding/json"
	"hash/maphash"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"dunlin/internal/qr"
	"dunlin/sync/wire"
)

// ClaimRequest is the body of POST /v1/claims.
type ClaimRequest struct {
	Tenant string `json:"tenant"`
	Name   string `json:"name"`  // of the device; "": by what it says of itself
	Renew  bool   `json:"renew"` // the device is known: its token is replaced when the claim is used
	TTL    int    `json:"ttl_s"` // 0: an hour
	Count  int    `json:"count"` // devices that may use it, without a name; 0: 1
}

// Claim is what may be known of a claim, and what became of it.
type Claim struct {
	ID          string    `json:"id"`
	Tenant      string    `json:"tenant"`
	Name        string    `json:"name,omitempty"`
	Renew       bool      `json:"renew,omitempty"`
	Count       int       `json:"count"`
	Made        time.Time `json:"made"`
	NotAfter    time.Time `json:"not_after"`
	Devices     []string  `json:"devices,omitempty"` // that used it, "tenant/name"
	Refused     int       `json:"refused"`           // how often somebody else tried
	RefusedAt   time.Time `json:"refused_at,omitzero"`
	RefusedFrom string    `json:"refused_from,omitempty"` // address of the last one
	RefusedWhy  string    `json:"refused_why,omitempty"`
}

// claimLimit bounds how often POST /v1/claim is answered, by network; a hash
// of it picks one of a few buckets, so that no flood of addresses takes memory.
type claimLimit struct {
	seed    maphash.Seed
	buckets [256]*rate.Limiter
}

func newClaimLimit() claimLimit {
	l := claimLimit{seed: maphash.MakeSeed()}
	for i := range l.buckets {
		l.buckets[i] = rate.NewLimiter(5, 30)
	}
	return l
}

func (l *claimLimit) allow(addr string) bool {
	return l.buckets[maphash.String(l.seed, network(addr))%uint64(len(l.buckets))].Allow()
}

// network returns what one machine cannot choose of its address: all of it,
// or the first 64 bits of IPv6, where it may take any of the others.
func network(addr string) string {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return addr
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}

func (s *Server) listClaims(http.ResponseWriter, *http.Request) (any, error) {
	return map[string]any{"claims": notNil(s.o.Backend.Claims())}, nil
}

func (s *Server) makeClaim(w http.ResponseWriter, r *http.Request) (any, error) {
	var in ClaimRequest
	if err := readJSON(w, r, &in, 4<<10); err != nil {
		return nil, err
	}
	line, c, err := s.o.Backend.MakeClaim(in)
	if err != nil {
		return nil, err
	}
	code, err := qr.New(line)
	if err != nil {
		return nil, err
	}
	return map[string]any{"claim": c, "line": line, "qr": code.Rows()}, nil
}

func (s *Server) revokeClaim(_ http.ResponseWriter, r *http.Request) (any, error) {
	return value(map[string]bool{"ok": true}, s.o.Backend.RevokeClaim(r.PathValue("id")))
}

// takeClaim is what a device without a token asks for. It is the one thing
// here that anybody may try, so it is bounded, and costs little to refuse.
func (s *Server) takeClaim(w http.ResponseWriter, r *http.Request) (any, error) {
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = r.RemoteAddr
	}
	if !s.claims.allow(from) {
		w.Header().Set("Retry-After", "10")
		refuse(w, http.StatusTooManyRequests, "too many claims", "try again in ten seconds")
		return nil, nil
	}
	var in wire.ClaimRequest
	// Not by readJSON: an agent that is newer than the hub may say more of
	// itself, and must get its token all the same.
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 2<<10))
	if err == nil {
		err = json.Unmarshal(text, &in)
	}
	if err != nil {
		return nil, invalid("body: %w", err)
	}
	return value(s.o.Backend.TakeClaim(in, from))
}
