import XCTest

@testable import HearpackKit

#if canImport(CoreML)
@testable import HearpackCoreML
#endif

/// The real Core ML, where there is one: the golden test of the app's own self-check, for each bundle in HEARPACK_BUNDLES.
final class CoreMLEngineTests: XCTestCase {
    func testGoldenVectorsInCoreML() async throws {
        #if canImport(CoreML)
        guard let folder = ProcessInfo.processInfo.environment["HEARPACK_BUNDLES"] else {
            throw XCTSkip("HEARPACK_BUNDLES names no folder of bundles; run: make test-ios")
        }
        let cache = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        let bundles = ModelBundle.all(in: URL(fileURLWithPath: folder))
        XCTAssertFalse(bundles.isEmpty)
        for url in bundles {
            let bundle = try ModelBundle(opening: url)
            for artefact in bundle.manifest.artefacts where artefact.format == "coreml" {
                let engine = try await CoreMLEngine.load(bundle, artefact, cacheFolder: cache)
                XCTAssertFalse(engine.wasCached)
                for report in try SelfCheck.run(bundle, artefact, engine) {
                    XCTAssertTrue(report.passed, "\(bundle.manifest.name) \(artefact.id): \(report.summary)")
                }
                let again = try await CoreMLEngine.load(bundle, artefact, cacheFolder: cache)
                XCTAssertTrue(again.wasCached)
            }
        }
        #else
        throw XCTSkip(
            "Core ML is only on Apple's systems; here runtimes/mil runs the same call order (tests/ios/test_core_ml_golden.py)")
        #endif
    }
}
