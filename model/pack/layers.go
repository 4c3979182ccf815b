package pack

import (
	"encoding/json"
	"strconv"

	"dunlin/internal/oci"
)

// The media types of the CNCF ModelPack specification, version 1
// (https://github.com/modelpack/model-spec).
const (
	ArtifactType     = "application/vnd.cncf.model.manifest.v1+json"
	MediaTypeConfig  = "application/vnd.cncf.model.config.v1+json"
	MediaTypeWeights = "application/vnd.cncf.model.weight.v1.raw"
)

// Our own media types. A change that an older reader would misread takes a
// new one.
const (
	MediaTypeGraph      = "application/vnd.dunlin.model.graph.v1+json"
	MediaTypeGraphV2    = "application/vnd.dunlin.model.graph.v2+json" // with tensors that are stored in fewer bytes
	MediaTypePipeline   = "application/vnd.dunlin.model.pipeline.v1+json"
	MediaTypeQuant      = "application/vnd.dunlin.model.quant.v1+json"
	MediaTypeReport     = "application/vnd.dunlin.model.report.v1+json"
	MediaTypeProvenance = "application/vnd.dunlin.model.provenance.v1+json"
	MediaTypeLabels     = "application/vnd.dunlin.model.labels.v1+json"
	MediaTypeEntities   = "application/vnd.dunlin.model.entities.v1+json"
	MediaTypeExam       = "application/vnd.dunlin.model.exam.v1+json"
	MediaTypeExamData   = "application/vnd.dunlin.model.exam.v1.safetensors"

	// The small form's. A reader that does not know them runs the first one.
	MediaTypeSmallGraph    = "application/vnd.dunlin.model.small.graph.v1+json"
	MediaTypeSmallGraphV2  = "application/vnd.dunlin.model.small.graph.v2+json"
	MediaTypeSmallWeights  = "application/vnd.dunlin.model.small.weights.v1.safetensors"
	MediaTypeSmallExam     = "application/vnd.dunlin.model.small.exam.v1+json"
	MediaTypeSmallExamData = "application/vnd.dunlin.model.small.exam.v1.safetensors"
)

const (
	fileGraph      = "graph.json"
	fileWeights    = "weights.safetensors"
	filePipeline   = "pipeline.json"
	fileQuant      = "quant.json"
	fileReport     = "report.json"
	fileProvenance = "provenance.json"
	fileLabels     = "labels.json"
	fileEntities   = "entities.json"
	fileExam       = "exam.json"
	fileExamData   = "exam.safetensors"
)

// formFiles is where a form of the model is.
type formFiles struct{ graph, weights, exam, examData string }

var (
	firstForm = formFiles{fileGraph, fileWeights, fileExam, fileExamData}
	smallForm = formFiles{"small-graph.json", "small-weights.safetensors", "small-exam.json", "small-exam.safetensors"}
)

// annotationFile is ModelPack's annotation for a layer's file name.
const annotationFile = "org.cncf.model.filepath"

// layer is what is known of one kind of blob.
type layer struct {
	file  string
	media string
	max   int64  // bytes that a reader accepts
	must  bool   // a pack without it is none
	newer string // media type of the form that older readers refuse, "" where there is one form
}

var layers = [...]layer{
	{fileGraph, MediaTypeGraph, 16 << 20, true, MediaTypeGraphV2},
	{fileWeights, MediaTypeWeights, 64 << 30, true, ""},
	{filePipeline, MediaTypePipeline, 1 << 20, false, ""},
	{fileQuant, MediaTypeQuant, 16 << 20, false, ""},
	{fileReport, MediaTypeReport, 16 << 20, false, ""},
	{fileProvenance, MediaTypeProvenance, 1 << 20, false, ""},
	{fileLabels, MediaTypeLabels, 8 << 20, false, ""},
	{fileEntities, MediaTypeEntities, 8 << 20, false, ""},
	{fileExam, MediaTypeExam, 1 << 20, false, ""},
	{fileExamData, MediaTypeExamData, 256 << 20, false, ""},
	{smallForm.graph, MediaTypeSmallGraph, 16 << 20, false, MediaTypeSmallGraphV2},
	{smallForm.weights, MediaTypeSmallWeights, 64 << 30, false, ""},
	{smallForm.exam, MediaTypeSmallExam, 1 << 20, false, ""},
	{smallForm.examData, MediaTypeSmallExamData, 256 << 20, false, ""},
}

func layerOf(file string) layer {
	for _, l := range layers {
		if l.file == file {
			return l
		}
	}
	return layer{}
}

// config is ModelPack's model configuration, as far as we fill it. It says
// nothing that the manifest does not; it lets other tools show the model.
type config struct {
	Descriptor struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	} `json:"descriptor"`
	Config struct {
		Format string `json:"format"`
	} `json:"config"`
	ModelFS struct {
		Type    string       `json:"type"`
		DiffIDs []oci.Digest `json:"diffIds"`
	} `json:"modelfs"`
}

// maxConfig bounds the bytes of a config blob.
const maxConfig = 64 << 10

func newConfig(p *Pack, layers []oci.Descriptor) config {
	var c config
	c.Descriptor.Name, c.Descriptor.Version = p.Name, strconv.FormatInt(p.Version, 10)
	c.Config.Format = "safetensors"
	c.ModelFS.Type = "layers"
	for _, d := range layers {
		c.ModelFS.DiffIDs = append(c.ModelFS.DiffIDs, d.Digest)
	}
	return c
}

// checkConfig fails where the config blob says another thing than the
// manifest: a person who looks at one must not see another model.
func checkConfig(data []byte, m *oci.Manifest) error {
	if err := scan(data); err != nil {
		return err
	}
	var c config
	if err := json.Unmarshal(data, &c); err != nil {
		return invalid("%w", err)
	}
	if c.Descriptor.Name != m.Annotations[oci.AnnotationTitle] || c.Descriptor.Version != m.Annotations[oci.AnnotationVersion] {
		return invalid("it describes %q version %q, the manifest %q version %q", clip(c.Descriptor.Name), clip(c.Descriptor.Version),
			clip(m.Annotations[oci.AnnotationTitle]), clip(m.Annotations[oci.AnnotationVersion]))
	}
	if len(c.ModelFS.DiffIDs) != len(m.Layers) {
		return invalid("it has %d layers, the manifest %d", len(c.ModelFS.DiffIDs), len(m.Layers))
	}
	for i, d := range m.Layers {
		if c.ModelFS.DiffIDs[i] != d.Digest {
			return invalid("layer %d is not the manifest's", i)
		}
	}
	return nil
}
