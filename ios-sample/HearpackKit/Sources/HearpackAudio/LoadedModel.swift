#if canImport(AVFoundation) && !os(macOS)
import Foundation
import HearpackCoreML
import HearpackKit

/// A bundle's model, loaded and warm, and what that took: the same for all streams of it.
struct LoadedModel: Sendable {
    let bundle: ModelBundle
    let artefact: Manifest.Artefact
    let engine: any InferenceEngine & Sendable
    var coldStart: DeviceTrace.ColdStart
    var warmUps: [DeviceTrace.Inference] = []

    /// Check the files, unless these very files were checked before, and load. Not on the main actor.
    static func load(_ bundle: ModelBundle, appReadyNs: Int64, clock: any StreamClock) async throws -> LoadedModel {
        let usual = try bundle.manifest.artefact(format: "coreml", in: bundle.folder)
        if let model = try await coreAI(bundle, appReadyNs, clock) { return model }
        return try await load(bundle, usual, appReadyNs, clock) {
            let caches = FileManager.default.urls(for: .cachesDirectory, in: .userDomainMask)[0]
            let engine = try await CoreMLEngine.load(bundle, usual, cacheFolder: caches.appendingPathComponent("hearpack"))
            return (engine, engine.wasCached ? .warm : .cold)
        }
    }

    /// The experimental artefact of iOS 27, where the bundle has one and this device takes it; else Core ML's is used.
    private static func coreAI(
        _ bundle: ModelBundle, _ appReadyNs: Int64, _ clock: any StreamClock
    ) async throws -> LoadedModel? {
        #if canImport(CoreAI)
        guard #available(iOS 27.0, *),
            let artefact = try? bundle.manifest.artefact(format: "coreai", in: bundle.folder)
        else { return nil }
        do {
            return try await load(bundle, artefact, appReadyNs, clock) { (try await CoreAIEngine.load(bundle, artefact), nil) }
        } catch HearpackError.artefact {
            return nil  // which engine runs is in the figures and the trace
        }
        #else
        return nil
        #endif
    }

    private static func load(
        _ bundle: ModelBundle, _ artefact: Manifest.Artefact, _ appReadyNs: Int64, _ clock: any StreamClock,
        _ open: () async throws -> (any InferenceEngine & Sendable, DeviceTrace.ColdStart.Cache?)
    ) async throws -> LoadedModel {
        var cold = DeviceTrace.ColdStart()
        cold.appReadyNs = appReadyNs
        let key = Checks.key("files", artefact)
        let stamp = bundle.stamp(artefact)
        if stamp == nil || Checks.remembered(key) != stamp {
            try bundle.checkFiles(artefact)
            if let stamp { Checks.remember(key, stamp) }
        }
        cold.bundleCheckedNs = clock.nowNs()
        cold.modelLoadBeginNs = clock.nowNs()
        let (engine, cache) = try await open()
        cold.modelLoadEndNs = clock.nowNs()
        cold.weightCache = cache
        return LoadedModel(bundle: bundle, artefact: artefact, engine: engine, coldStart: cold)
    }

    /// Loaded is not warm: the first predictions may take seconds. They come before the self-check, so that they are told apart.
    func warmedUp(calls: Int = 3, clock: any StreamClock) throws -> LoadedModel {
        var model = self
        for _ in 0..<calls {
            let begin = clock.nowNs()
            try engine.warmUp(calls: 1)
            model.warmUps.append(DeviceTrace.Inference(beginNs: begin, endNs: clock.nowNs(), endSample: 0, warmUp: true))
        }
        return model
    }

    var needsSelfCheck: Bool { Checks.remembered(Checks.key("self-check", artefact)) == nil }

    func selfChecked() throws -> [SelfCheckReport] {
        let reports = try SelfCheck.run(bundle, artefact, engine)
        if !reports.isEmpty, reports.allSatisfy(\.passed) { Checks.remember(Checks.key("self-check", artefact), "passed") }
        return reports
    }

    /// The recorder of this model's first stream; `next()` of it is the following ones'.
    func recorder() -> TraceRecorder {
        let recorder = TraceRecorder(coldStart: coldStart)
        for call in warmUps { recorder.inference(call) }
        return recorder
    }
}

/// What this device was found to pass, of these bytes and this version of the system: once each is enough.
private enum Checks {
    static func key(_ what: String, _ artefact: Manifest.Artefact) -> String {
        "hearpack \(what) " + artefact.key(ProcessInfo.processInfo.operatingSystemVersionString)
    }

    static func remembered(_ key: String) -> String? { UserDefaults.standard.string(forKey: key) }

    static func remember(_ key: String, _ value: String) { UserDefaults.standard.set(value, forKey: key) }
}
#endif
