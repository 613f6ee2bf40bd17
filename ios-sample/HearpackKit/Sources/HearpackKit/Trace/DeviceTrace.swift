import Foundation

/// What the app writes of one stream on one device (docs/device-trace.schema.json); `hearpack fit-device` reads it.
public struct DeviceTrace: Codable, Equatable, Sendable {
    public struct App: Codable, Equatable, Sendable {
        public var name: String
        public var version: String
        public var build: String

        public init(name: String, version: String, build: String) {
            self.name = name
            self.version = version
            self.build = build
        }
    }

    public struct Device: Codable, Equatable, Sendable {
        public var manufacturer: String
        public var model: String
        public var os: String
        public var osVersion: String
        public var emulated: Bool
        public var cores: Int?
        public var memoryBytes: Int?
        public var lowPowerMode: Bool?

        public init(
            manufacturer: String, model: String, os: String, osVersion: String, emulated: Bool, cores: Int? = nil,
            memoryBytes: Int? = nil, lowPowerMode: Bool? = nil
        ) {
            self.manufacturer = manufacturer
            self.model = model
            self.os = os
            self.osVersion = osVersion
            self.emulated = emulated
            self.cores = cores
            self.memoryBytes = memoryBytes
            self.lowPowerMode = lowPowerMode
        }
    }

    public struct Model: Codable, Equatable, Sendable {
        public var name: String
        public var bufferSamples: Int
        public var artefactId: String
        public var artefactSha256: String
        public var runtime: String
        public var runtimeVersion: String
        public var windowHopSamples: Int?

        /// What the manifest says of the artefact in use; of a package the sha256 of its model.mlmodel.
        public init(_ manifest: Manifest, _ artefact: Manifest.Artefact, _ info: EngineInfo) {
            let file = artefact.files.first { $0.path.hasSuffix("model.mlmodel") } ?? artefact.files[0]
            name = manifest.name
            bufferSamples = manifest.buffer.samples
            artefactId = artefact.id
            artefactSha256 = file.sha256
            runtime = info.runtime
            runtimeVersion = info.version
            windowHopSamples = manifest.decisions?.windowHopSamples
        }
    }

    public struct Audio: Codable, Equatable, Sendable {
        public var modelRateHz: Int
        public var requested: CaptureFormat
        public var granted: CaptureFormat
        public var ringSamples: Int?

        public init(modelRateHz: Int, requested: CaptureFormat, granted: CaptureFormat, ringSamples: Int? = nil) {
            self.modelRateHz = modelRateHz
            self.requested = requested
            self.granted = granted
            self.ringSamples = ringSamples
        }
    }

    public struct ColdStart: Codable, Equatable, Sendable {
        public enum Cache: String, Codable, Sendable { case cold, warm, none }

        public var appReadyNs: Int64?
        public var bundleCheckedNs: Int64?
        public var modelLoadBeginNs: Int64 = 0
        public var modelLoadEndNs: Int64 = 0
        public var warmUpCalls: Int?
        public var firstCallBeginNs: Int64 = 0
        public var firstCallEndNs: Int64 = 0
        public var captureBeginNs: Int64?
        public var firstCallbackNs: Int64?
        public var firstDecisionNs: Int64?
        public var weightCache: Cache?
        public var lostSamples: Int?

        public init() {}
    }

    public struct Callback: Codable, Equatable, Sendable {
        public var timeNs: Int64
        public var endNs: Int64?
        public var frames: Int
        public var hardwareTimeNs: Int64?
        public var hardwareFrame: Int64?
        public var rateHz: Int?
        /// Of a row that stands for several: when the last of them came, and how many they are.
        public var lastTimeNs: Int64?
        public var count: Int?
    }

    public struct Inference: Codable, Equatable, Sendable {
        public var beginNs: Int64
        public var endNs: Int64
        public var endSample: Int
        public var waitingSamples: Int?
        public var warmUp: Bool?
        public var error: String?
        /// Of a row that stands for several: end of the last, how many they are, their time in all, and the longest.
        public var lastEndNs: Int64?
        public var count: Int?
        public var busyNs: Int64?
        public var longestNs: Int64?

        public init(
            beginNs: Int64, endNs: Int64, endSample: Int, waitingSamples: Int? = nil, warmUp: Bool? = nil,
            error: String? = nil
        ) {
            self.beginNs = beginNs
            self.endNs = endNs
            self.endSample = endSample
            self.waitingSamples = waitingSamples
            self.warmUp = warmUp
            self.error = error
        }
    }

    public enum GapKind: String, Codable, Sendable {
        case captureOverrun = "capture_overrun"
        case captureGap = "capture_gap"
        case ringOverrun = "ring_overrun"
        case playoutUnderrun = "playout_underrun"
        case stall
        case reset
    }

    public struct Gap: Codable, Equatable, Sendable {
        public var timeNs: Int64
        public var kind: GapKind
        public var samples: Int
        public var rateHz: Int
        public var policy: String?
    }

    public struct Thermal: Codable, Equatable, Sendable {
        public enum State: String, Codable, Sendable { case nominal, fair, serious, critical, unknown }
        public var timeNs: Int64
        public var state: State
    }

    public enum Port: String, Codable, Sendable {
        case builtIn = "built_in"
        case wired, usb
        case bluetoothHFP = "bluetooth_hfp"
        case bluetoothLE = "bluetooth_le"
        case bluetoothA2DP = "bluetooth_a2dp"
        case hearingAid = "hearing_aid"
        case file, other, none
    }

    public struct Route: Codable, Equatable, Sendable {
        public var timeNs: Int64
        public var input: Port
        public var output: Port?
        public var rateHz: Int
        public var channels: Int?
        public var reason: String?
        public var systemInputLatencyNs: Int64?
        public var systemOutputLatencyNs: Int64?

        public init(
            timeNs: Int64, input: Port, output: Port? = nil, rateHz: Int, channels: Int? = nil, reason: String? = nil,
            systemInputLatencyNs: Int64? = nil, systemOutputLatencyNs: Int64? = nil
        ) {
            self.timeNs = timeNs
            self.input = input
            self.output = output
            self.rateHz = rateHz
            self.channels = channels
            self.reason = reason
            self.systemInputLatencyNs = systemInputLatencyNs
            self.systemOutputLatencyNs = systemOutputLatencyNs
        }
    }

    public struct Gain: Codable, Equatable, Sendable {
        public var timeNs: Int64
        public var system: Double?
        public var automatic: Bool?

        public init(timeNs: Int64, system: Double?, automatic: Bool?) {
            self.timeNs = timeNs
            self.system = system
            self.automatic = automatic
        }
    }

    public struct ComputeUnit: Codable, Equatable, Sendable {
        public var timeNs: Int64
        public var requested: String
        /// What was seen, not what was asked for; "unknown" where the system does not say.
        public var used: String
        public var detail: String?

        public init(timeNs: Int64, requested: String, used: String, detail: String? = nil) {
            self.timeNs = timeNs
            self.requested = requested
            self.used = used
            self.detail = detail
        }
    }

    /// A finished event.
    public struct Event: Codable, Equatable, Sendable {
        public var label: String
        public var index: Int
        public var onsetSample: Int
        public var offsetSample: Int
        public var confidence: Double
        public var emittedAtSample: Int
        public var emittedAtNs: Int64
    }

    public enum EndReason: String, Codable, Sendable { case stopped, interrupted, error }

    public struct End: Codable, Equatable, Sendable {
        public var timeNs: Int64
        public var reason: EndReason
        public var message: String?
        public var callbacks: Int
        public var inferences: Int
        public var peakMemoryBytes: Int?
        /// When the first gap, event, route or thermal state came that found no room.
        public var truncatedAtNs: Int64?
    }

    public var schema = "hearpack-trace/1.0"
    public var app: App
    public var device: Device
    public var bundle: Model
    public var audio: Audio
    public var coldStart: ColdStart
    public var callbacks: [Callback]
    public var inferences: [Inference]
    public var gaps: [Gap]
    public var thermal: [Thermal]
    public var routes: [Route]
    public var gains: [Gain]
    public var computeUnits: [ComputeUnit]
    public var events: [Event]?
    public var end: End

    /// The file's text: sorted keys, a newline at the end.
    public func json() throws -> Data {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        return try encoder.encode(self) + Data("\n".utf8)
    }
}
