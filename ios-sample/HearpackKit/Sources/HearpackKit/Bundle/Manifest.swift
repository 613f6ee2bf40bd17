import Foundation

/// manifest.json, schema hearpack/1 (docs/bundle.md): the one contract between Python, Kotlin and Swift.
///
/// Unknown fields are ignored; another major schema number is refused before anything else is read.
public struct Manifest: Decodable, Equatable, Sendable {
    public static let schemaMajor = "hearpack/1"

    public enum Task: String, Decodable, Sendable { case classifier, enhancer, separator }

    public struct Geometry: Decodable, Equatable, Sendable {
        public let sampleRateHz: Int
        public let channels: Int
        public let windowSamples: Int
        public let hopSamples: Int
        public let delaySamples: Int

        enum CodingKeys: String, CodingKey {
            case sampleRateHz = "sample_rate_hz"
            case channels
            case windowSamples = "window_samples"
            case hopSamples = "hop_samples"
            case delaySamples = "delay_samples"
        }
    }

    public struct Buffer: Decodable, Equatable, Sendable {
        public enum Kind: String, Decodable, Sendable { case step, window }
        public let kind: Kind
        public let hopsPerCall: Int
        public let samples: Int

        enum CodingKeys: String, CodingKey {
            case kind
            case hopsPerCall = "hops_per_call"
            case samples
        }
    }

    public struct Tensor: Decodable, Equatable, Sendable {
        public let name: String
        public let shape: [Int]
        public let dtype: String
        public let meaning: String
    }

    /// Goes into a call as `input`; what comes out as `output` goes into the next one.
    public struct State: Decodable, Equatable, Sendable {
        public let input: String
        public let output: String
        public let shape: [Int]
        public let dtype: String
        public let reset: String

        enum CodingKeys: String, CodingKey {
            case input = "in"
            case output = "out"
            case shape, dtype, reset
        }
    }

    public struct File: Decodable, Equatable, Sendable {
        public let path: String
        public let sha256: String
        public let bytes: Int
    }

    public struct MinimumOS: Decodable, Equatable, Sendable {
        public let ios: String?
    }

    public struct Precision: Decodable, Equatable, Sendable {
        public let weights: String
        public let compute: String
    }

    public struct Tolerance: Decodable, Equatable, Sendable {
        public let metric: String
        public let limit: Double
    }

    public enum Compute: String, Decodable, Sendable { case cpu, gpu, npu }
    public enum StateMode: String, Decodable, Sendable { case explicit, mlstate }

    public struct Artefact: Decodable, Equatable, Sendable {
        public let id: String
        public let format: String
        public let precision: Precision
        public let files: [File]
        public let minimumOS: MinimumOS
        public let allowedCompute: [Compute]
        public let io: [String: String]?
        public let stateMode: StateMode
        public let tolerance: [Tolerance]

        enum CodingKeys: String, CodingKey {
            case id, format, precision, files, io, tolerance
            case minimumOS = "minimum_os"
            case allowedCompute = "allowed_compute"
            case stateMode = "state_mode"
        }

        /// The .tflite, or the .mlpackage or .aimodel folder, relative to the bundle.
        public var path: String {
            let parts = files[0].path.split(separator: "/")
            let package = parts.firstIndex { $0.hasSuffix(".mlpackage") || $0.hasSuffix(".aimodel") }
            guard let package else { return files[0].path }
            return parts[...package].joined(separator: "/")
        }

        /// A short name for these bytes on a system: for what is computed once for both and kept.
        public func key(_ system: String) -> String {
            String(FileDigest.hex(Data((files.map(\.sha256).joined() + system).utf8)).prefix(32))
        }

        /// The file's name of one of our tensors.
        public func fileName(_ ours: String) -> String { io?[ours] ?? ours }
    }

    public struct Playout: Decodable, Equatable, Sendable {
        public let prefillSamples: Int

        enum CodingKeys: String, CodingKey { case prefillSamples = "prefill_samples" }

        public init(from decoder: any Decoder) throws {
            try refuseUnknownKeys(decoder, [CodingKeys.prefillSamples.rawValue])
            prefillSamples = try decoder.container(keyedBy: CodingKeys.self).decode(Int.self, forKey: .prefillSamples)
        }
    }

    public let schema: String
    public let name: String
    public let task: Task
    public let geometry: Geometry
    public let buffer: Buffer
    public let inputs: [Tensor]
    public let outputs: [Tensor]
    public let states: [State]
    public let decisions: Decisions?
    public let dsp: [DSPStage]?
    public let playout: Playout?
    public let artefacts: [Artefact]
    /// Every file of the bundle but the artefacts' own: what is not listed is not read. Never nil once it was checked.
    public let files: [File]?

    /// How far the stream moves a call: a step net's buffer, a window's hop.
    public var hopSamples: Int {
        buffer.kind == .step ? buffer.samples : decisions?.windowHopSamples ?? geometry.hopSamples
    }

    /// Read and validate the text of a manifest.
    ///
    /// - Throws: `bundle`: not JSON, of a newer schema, a field missing, or fields that contradict each other.
    public static func parse(_ data: Data, origin: String) throws -> Manifest {
        struct Head: Decodable { let schema: String }
        let decoder = JSONDecoder()
        let head: Head
        do {
            head = try decoder.decode(Head.self, from: data)
        } catch {
            throw HearpackError.bundle("\(origin): expected a manifest with schema \(schemaMajor), got \(explain(error))")
        }
        let major = head.schema.split(separator: ".").first.map(String.init) ?? ""
        guard major == schemaMajor else {
            throw HearpackError.bundle(
                "\(origin): schema \(head.schema) is not one this app reads (\(schemaMajor)); update the app, or export "
                    + "the bundle with a hearpack that writes \(schemaMajor)")
        }
        do {
            let manifest = try decoder.decode(Manifest.self, from: data)
            try manifest.check(origin)
            return manifest
        } catch {
            throw HearpackError.translating(error) { _ in
                .bundle("\(origin): invalid against \(schemaMajor): \(explain(error)); export the bundle again")
            }
        }
    }

    /// The artefact of a format whose files are all in `folder`; the first, or the one called `id`.
    public func artefact(format: String, id: String? = nil, in folder: URL) throws -> Artefact {
        let fitting = artefacts.filter { $0.format == format && (id == nil || $0.id == id) }
        let installed = fitting.first { artefact in
            artefact.files.allSatisfy { FileManager.default.fileExists(atPath: folder.appendingPathComponent($0.path).path) }
        }
        guard let installed else {
            let there = artefacts.map(\.id).joined(separator: ", ")
            throw HearpackError.bundle(
                "\(name): no \(id ?? format) artefact is installed with this bundle; the manifest names: \(there); "
                    + "run: hearpack install BUNDLE --ios DIR")
        }
        return installed
    }

    private func check(_ origin: String) throws {
        func refuse(_ what: String) -> HearpackError { .bundle("\(origin): \(what); export the bundle again") }
        try checkNames(refuse)
        try checkNumbers(refuse)
        guard geometry.channels == 1 else {
            throw refuse("this app feeds one microphone channel, the model takes \(geometry.channels)")
        }
        guard let audio = inputs.first, audio.name == "audio", audio.shape == [1, buffer.samples] else {
            let came = inputs.first.map { "\($0.name) \($0.shape)" } ?? "no input"
            throw refuse("the first input must be audio [1, \(buffer.samples)], got \(came)")
        }
        guard inputs.count == 1 else {
            throw refuse("this app feeds audio alone, the model also takes \(inputs[1].name)")
        }
        guard task != .separator else { throw refuse("this app plays one output, a separator gives \(outputs.count)") }
        guard !outputs.isEmpty, !artefacts.isEmpty else { throw refuse("expected at least one output and one artefact") }
        let expected =
            buffer.kind == .window ? geometry.windowSamples : buffer.hopsPerCall * geometry.hopSamples
        guard buffer.samples == expected, buffer.samples >= 1, geometry.sampleRateHz >= 1, geometry.hopSamples >= 1 else {
            throw refuse("buffer.samples is \(buffer.samples), geometry and hops_per_call give \(expected)")
        }
        for tensor in inputs + outputs where tensor.dtype != "float32" {
            throw refuse("\(tensor.name): expected float32, got \(tensor.dtype)")
        }
        for state in states where state.dtype != "float32" || state.reset != "zeros" {
            throw refuse("state \(state.input): expected float32 that starts with zeros, got \(state.dtype), \(state.reset)")
        }
        do {
            try DSPStage.check(dsp ?? [], self)
        } catch {
            throw HearpackError.translating(error) { refuse($0) }
        }
        guard task != .enhancer || outputs[0].shape.last == buffer.samples else {
            throw refuse("\(outputs[0].name) must give \(buffer.samples) samples per call, got \(outputs[0].shape)")
        }
        if task == .classifier {
            guard decisions != nil else { throw refuse("a classifier must have decisions") }
        }
        for artefact in artefacts {
            guard !artefact.files.isEmpty, !artefact.allowedCompute.isEmpty else {
                throw refuse("artefact \(artefact.id): expected at least one file and one compute unit")
            }
        }
    }

    /// What is joined to paths, and what the files are said to be.
    private func checkNames(_ refuse: (String) -> HearpackError) throws {
        guard let files else {
            throw refuse("no `files`, the list with a hash of every file: made by a hearpack that had none")
        }
        let tensors = (inputs + outputs).map(\.name) + states.flatMap { [$0.input, $0.output] }
        for name in [self.name] + tensors + artefacts.map(\.id) where !BundlePath.isName(name) {
            throw refuse("name \(name): expected up to 128 letters, digits, '_', '-' and '.'")
        }
        let all = files + artefacts.flatMap(\.files)
        for file in all {
            guard BundlePath.isInside(file.path) else { throw refuse("path \(file.path) does not stay inside the bundle") }
            guard file.sha256.utf8.count == 64, file.sha256.utf8.allSatisfy(Array("0123456789abcdef".utf8).contains),
                (0...BundlePath.largestFile).contains(file.bytes)
            else { throw refuse("\(file.path): expected a sha256 of 64 hexadecimal digits and a size") }
        }
        guard Set(all.map { $0.path.lowercased() }).count == all.count else { throw refuse("a path is listed twice") }
        guard Set(artefacts.map(\.id)).count == artefacts.count else { throw refuse("artefact ids are not unique") }
    }

    /// What no phone's model comes near to (runtimes/bundle/manifest.py): a wrong figure is not met as a full memory.
    private func checkNumbers(_ refuse: (String) -> HearpackError) throws {
        try decisions?.check("decisions")
        let most = Self.mostSamples
        let figures = [
            ("sample_rate_hz", geometry.sampleRateHz, Resampler.rates), ("channels", geometry.channels, 1...64),
            ("window_samples", geometry.windowSamples, 1...most), ("hop_samples", geometry.hopSamples, 1...most),
            ("delay_samples", geometry.delaySamples, 0...most), ("hops_per_call", buffer.hopsPerCall, 1...most),
            ("buffer.samples", buffer.samples, 1...most), ("prefill_samples", playout?.prefillSamples ?? 0, 0...most),
        ]
        for (name, value, range) in figures where !range.contains(value) {
            throw refuse("\(name): expected \(range.lowerBound) to \(range.upperBound), got \(value)")
        }
        for shape in (inputs + outputs).map(\.shape) + states.map(\.shape) {
            guard Self.elements(shape) != nil else {
                throw refuse("shape \(shape): expected 1 to 8 axes and at most \(Self.mostElements) elements")
            }
        }
        guard buffer.kind == .step || hopSamples < 1 || hopSamples * 256 >= buffer.samples else {
            throw refuse("a hop of \(hopSamples) makes more than 256 windows share a sample")
        }
        guard let decisions else { return }
        guard buffer.kind == .window || decisions.windowHopSamples == buffer.samples else {
            throw refuse("decisions.window_hop_samples: a step net gives scores every \(buffer.samples) samples, once per call")
        }
        let scores = outputs.first.flatMap { Self.elements($0.shape) } ?? 1
        guard decisions.smoothingWindows * scores <= Self.mostElements else {
            throw refuse("decisions.smoothing_windows: too many for \(scores) scores")
        }
    }

    static let mostSamples = 1 << 24
    static let mostElements = 1 << 26

    /// Elements of a tensor of this shape; nil where it is none that a model has.
    static func elements(_ shape: [Int]) -> Int? {
        guard (1...8).contains(shape.count) else { return nil }
        var count = 1
        for size in shape {
            guard (1...mostElements).contains(size) else { return nil }
            count *= size
            guard count <= mostElements else { return nil }
        }
        return count
    }
}

/// Where a decoding failed and what was wrong there, without Swift's own names.
private func explain(_ error: any Error) -> String {
    guard let decoding = error as? DecodingError else { return String(describing: error) }
    func place(_ path: [any CodingKey]) -> String {
        path.isEmpty ? "the top" : path.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".")
    }
    switch decoding {
    case .keyNotFound(let key, let context): return "\(key.stringValue) is missing at \(place(context.codingPath))"
    case .valueNotFound(_, let context): return "\(place(context.codingPath)) is null"
    case .typeMismatch(_, let context): return "\(place(context.codingPath)) has another type"
    case .dataCorrupted(let context):
        return context.codingPath.isEmpty ? "no JSON" : "\(place(context.codingPath)) has a value that is not known"
    @unknown default: return "no manifest"
    }
}
