package hub

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"dunlin/facts/graph"
	"dunlin/hub/api"
	"dunlin/internal/oci"
	"dunlin/sync/wire"
)

// An artefact of facts can take seconds to make, and Hub.mu is on the way of
// every message. So nothing is made under it: desireFacts takes what is there
// already, and else notes the device as lacking; the facts worker makes it
// and comes back with the lock.

// offer returns the offer of a step whose artefact was made.
func (g *graphs) offer(s step) (wire.Offer, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	o, ok := g.made[s]
	return o, ok
}

// artefact returns the signed offer that leads from a version (0: none) to
// the newest, and makes what it names where it is not there yet. h.mu is not
// held.
func (h *Hub) artefact(ctx context.Context, g *graph.Graph, from int64) (wire.Offer, error) {
	h.graphs.building.Lock()
	defer h.graphs.building.Unlock()
	key := step{g.Name(), from, g.Latest()}
	if o, ok := h.graphs.offer(key); ok {
		return o, nil
	}
	a, err := g.Artefact(ctx, from, key.to, nil)
	if err != nil {
		return wire.Offer{}, err
	}
	o, err := h.storeArtefact(a)
	if err != nil {
		return o, fmt.Errorf("store facts: %w", err)
	}
	h.graphs.mu.Lock()
	defer h.graphs.mu.Unlock()
	h.graphs.made[key] = o
	return o, nil
}

func (h *Hub) storeArtefact(a graph.Artefact) (o wire.Offer, err error) {
	layout := h.registry.Layout()
	layer, err := layout.PutBytes(a.MediaType, a.Bytes)
	if err != nil {
		return o, err
	}
	config, err := layout.PutBytes(v1.MediaTypeEmptyJSON, []byte("{}"))
	if err != nil {
		return o, err
	}
	manifest, err := layout.PutManifest(&oci.Manifest{
		ArtifactType: MediaTypeFacts, Config: config, Layers: []oci.Descriptor{layer},
		Annotations: map[string]string{oci.AnnotationTitle: a.Graph, oci.AnnotationVersion: strconv.FormatInt(a.To, 10)},
	})
	if err != nil {
		return o, err
	}
	return wire.Offer{
		Kind: wire.OfferFacts, Name: a.Graph, Version: a.To, From: a.From, Manifest: string(manifest.Digest),
		Bytes: manifest.Size + config.Size + layer.Size,
		Sig:   h.key.Sign(wire.OfferFacts.Purpose(), []byte(manifest.Digest)),
	}, nil
}

// offerGraph makes g the graph of the devices, and offers its newest version
// to each of them.
func (h *Hub) offerGraph(ctx context.Context, g *graph.Graph) (api.Graph, error) {
	if err := h.chooseGraph(g.Name()); err != nil {
		return api.Graph{}, err
	}
	base, err := h.makeArtefacts(ctx, g)
	// The version is there even if nobody waits for the answer any more:
	// what was not made is then the worker's.
	if offered := h.desireAll(g); err == nil {
		err = offered
	}
	if err != nil {
		return api.Graph{}, err
	}
	h.sweepFacts()
	out := graphView(g)
	out.Manifest = base.Manifest
	h.log.Info("facts imported", "graph", out.Name, "version", out.Version, "document", out.Document, "facts", out.Facts)
	h.events.Publish(api.EventFacts, out)
	return out, nil
}

func (h *Hub) chooseGraph(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &change{}
	c.put(bucketMeta, string(keyGraph), name)
	if err := h.commit(c); err != nil {
		return err
	}
	h.state.graph = name
	return nil
}

// makeArtefacts makes what devices will be offered: the base, and a patch
// from each version that a device has.
func (h *Hub) makeArtefacts(ctx context.Context, g *graph.Graph) (base wire.Offer, err error) {
	from := map[int64]bool{}
	h.mu.Lock()
	for _, d := range h.state.devices {
		from[d.patchFrom(g)] = true
	}
	h.mu.Unlock()
	for v := range from {
		if _, err := h.artefact(ctx, g, v); err != nil {
			return base, err
		}
	}
	return h.artefact(ctx, g, 0)
}

func (h *Hub) desireAll(g *graph.Graph) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &change{}
	for _, d := range h.state.devices {
		h.desireFacts(c, d, g, false)
	}
	if err := h.commit(c); err != nil {
		return err
	}
	h.wakeSpeaker()
	return nil
}

// patchFrom returns the version of g that a device has, and that is older
// than the newest; else 0.
func (d *device) patchFrom(g *graph.Graph) int64 {
	if has := d.holds(); has != nil && has.Graph == g.Name() && has.Version > 0 && has.Version < g.Latest() {
		return has.Version
	}
	return 0
}

// desireFacts gives a device the newest version of a graph, unless it is
// offered already, as a base where that is asked for; h.mu is held. Where the
// artefact is not made yet, the device gets it from the worker.
func (h *Hub) desireFacts(c *change, d *device, g *graph.Graph, base bool) {
	latest := g.Latest()
	if d.Desired != nil && d.Desired.Facts != nil {
		f := d.Desired.Facts
		if f.Name == g.Name() && f.Version == latest && (f.From == 0 || !base) {
			return
		}
	}
	key := step{graph: g.Name(), to: latest}
	if !base {
		key.from = d.patchFrom(g)
	}
	o, ok := h.graphs.offer(key)
	if !ok {
		h.lacking[d.id()] = base
		select {
		case h.lack <- struct{}{}:
		default:
		}
		return
	}
	c.desire(d, 0, func(w *wire.Desired) { w.Facts = &o })
}

// offerFacts sees to it that a device has the present graph on offer, as a
// base where a patch did not fit; h.mu is held.
func (h *Hub) offerFacts(d *device, base bool) {
	if h.state.graph == "" {
		return
	}
	g, err := h.graphs.get(h.state.graph, false)
	if err != nil {
		return
	}
	c := &change{}
	h.desireFacts(c, d, g, base)
	if err := h.commit(c); err != nil {
		h.log.Error("desired document not stored", "device", d.id().String(), "error", err)
	}
	h.wakeSpeaker()
}

// offerBase replaces a patch that a device refused, because it has another
// version than it had said, by a base; h.mu is held.
func (h *Hub) offerBase(d *device, refused string) {
	if d.Desired == nil || d.Desired.Facts == nil || d.Desired.Facts.From == 0 || d.Desired.Facts.Manifest != refused {
		return
	}
	h.offerFacts(d, true)
}

// offerLacking is the facts worker: it makes what devices lack until ctx ends.
func (h *Hub) offerLacking(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.lack:
			h.makeLacking(ctx)
		}
	}
}

// makeLacking makes the artefacts for the devices that lack one now, and
// offers them.
func (h *Hub) makeLacking(ctx context.Context) {
	h.mu.Lock()
	lacking, name := maps.Clone(h.lacking), h.state.graph
	clear(h.lacking)
	h.mu.Unlock()
	g, err := h.graphs.get(name, false)
	if err != nil {
		return // it was never imported
	}
	for id, base := range lacking {
		h.mu.Lock()
		d, from := h.state.devices[id], int64(0)
		if d != nil && !base {
			from = d.patchFrom(g)
		}
		h.mu.Unlock()
		if d == nil {
			continue
		}
		if _, err := h.artefact(ctx, g, from); err != nil {
			if ctx.Err() == nil {
				h.log.Error("facts not offered", "device", id.String(), "graph", name, "error", err)
			}
			continue // its next hello asks again
		}
		h.mu.Lock()
		if d := h.state.devices[id]; d != nil {
			h.offerFacts(d, base)
		}
		h.mu.Unlock()
	}
	h.sweepFacts()
}

// sweepFacts removes the artefacts of old versions that no device is to have
// any more. It touches nothing else: uploads may be under way.
func (h *Hub) sweepFacts() {
	h.mu.Lock()
	keep := h.wantedFacts()
	kept := map[string]bool{}
	for _, m := range keep {
		kept[m] = true
	}
	var old []string
	h.graphs.mu.Lock()
	for key, o := range h.graphs.made {
		if g := h.graphs.all[key.graph]; g != nil && key.to == g.Latest() {
			keep = append(keep, o.Manifest)
		} else if !kept[o.Manifest] {
			old = append(old, o.Manifest)
			delete(h.graphs.made, key)
		}
	}
	h.graphs.mu.Unlock()
	h.mu.Unlock()
	if len(old) == 0 {
		return
	}
	freed, err := h.registry.Remove(old, keep)
	if err != nil {
		h.log.Warn("old facts not removed", "error", err)
	} else if freed > 0 {
		h.log.Info("old facts removed", "bytes", freed)
	}
}

// wantedFacts returns the manifests of the facts that devices are to have;
// h.mu is held.
func (h *Hub) wantedFacts() (all []string) {
	for _, d := range h.state.devices {
		if d.Desired != nil && d.Desired.Facts != nil {
			all = append(all, d.Desired.Facts.Manifest)
		}
	}
	return all
}
