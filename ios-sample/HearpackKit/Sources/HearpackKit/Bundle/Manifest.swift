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

        /// The .tflite, or the .mlpackage folder, relative to the bundle.
        public var path: String {
            let parts = files[0].path.split(separator: "/")
            guard let package = parts.firstIndex(where: { $0.hasSuffix(".mlpackage") }) else { return files[0].path }
            return parts[...package].joined(separator: "/")
        }

        /// The file's name of one of our tensors.
        public func fileName(_ ours: String) -> String { io?[ours] ?? ours }
    }

    public struct Playout: Decodable, Equatable, Sendable {
        public let prefillSamples: Int

        enum CodingKeys: String, CodingKey { case prefillSamples = "prefill_samples" }
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
            throw translated(error) { _ in
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
        guard geometry.channels == 1 else {
            throw refuse("this app feeds one microphone channel, the model takes \(geometry.channels)")
        }
        guard let audio = inputs.first, audio.name == "audio", audio.shape == [1, buffer.samples] else {
            let came = inputs.first.map { "\($0.name) \($0.shape)" } ?? "no input"
            throw refuse("the first input must be audio [1, \(buffer.samples)], got \(came)")
        }
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
            throw translated(error) { refuse($0) }
        }
        if task == .classifier {
            guard let decisions else { throw refuse("a classifier must have decisions") }
            try decisions.check(origin)
        }
        for artefact in artefacts {
            guard !artefact.files.isEmpty, !artefact.allowedCompute.isEmpty else {
                throw refuse("artefact \(artefact.id): expected at least one file and one compute unit")
            }
            for file in artefact.files where file.path.hasPrefix("/") || file.path.split(separator: "/").contains("..") {
                throw refuse("artefact \(artefact.id): path \(file.path) does not stay inside the bundle")
            }
        }
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
