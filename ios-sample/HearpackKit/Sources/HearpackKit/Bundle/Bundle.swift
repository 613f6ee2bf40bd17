import Foundation

/// A bundle's folder and its validated manifest. The name keeps it apart from Foundation's `Bundle`.
public struct ModelBundle: Sendable {
    public let folder: URL
    public let manifest: Manifest

    /// - Throws: `bundle`: no folder, no manifest, or an invalid one.
    public init(opening folder: URL) throws {
        let file = folder.appendingPathComponent("manifest.json")
        guard let data = try? Data(contentsOf: file) else {
            throw HearpackError.bundle(
                "\(folder.lastPathComponent): expected a bundle (a folder with manifest.json), found none; "
                    + "run: hearpack install BUNDLE --ios DIR")
        }
        self.folder = folder
        manifest = try Manifest.parse(data, origin: "\(folder.lastPathComponent)/manifest.json")
    }

    /// Every bundle in a folder, by name. A folder without one gives none.
    public static func all(in folder: URL) -> [URL] {
        let found = (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)) ?? []
        return found.filter { $0.pathExtension == "hearpack" }.sorted { $0.lastPathComponent < $1.lastPathComponent }
    }

    /// One label a line of labels.txt; empty for an enhancer.
    ///
    /// - Throws: `bundle`: labels.txt is missing, or has another count than the scores.
    public func labels() throws -> [String] {
        guard manifest.task == .classifier else { return [] }
        let file = folder.appendingPathComponent("labels.txt")
        guard let text = try? String(contentsOf: file, encoding: .utf8) else {
            throw HearpackError.bundle("\(folder.lastPathComponent)/labels.txt cannot be read; install the bundle again")
        }
        var labels = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if labels.last == "" { labels.removeLast() }
        let expected = manifest.outputs[0].shape.last ?? 0
        guard labels.count == expected else {
            throw HearpackError.bundle(
                "\(folder.lastPathComponent)/labels.txt: expected \(expected) labels, one a line, got \(labels.count)")
        }
        return labels
    }

    /// Hold every file of one artefact against its size and sha256.
    ///
    /// - Throws: `bundle`: a file is missing, or is not the one that was exported.
    public func checkFiles(_ artefact: Manifest.Artefact) throws {
        for entry in artefact.files {
            let url = folder.appendingPathComponent(entry.path)
            guard let data = try? Data(contentsOf: url, options: .mappedIfSafe) else {
                throw HearpackError.bundle(
                    "\(entry.path) is missing; artefact \(artefact.id) is incomplete, install the bundle again")
            }
            let digest = data.count == entry.bytes ? SHA256.hex(data) : ""
            guard digest == entry.sha256 else {
                let came = digest.isEmpty ? "\(data.count) bytes" : "sha256 \(digest.prefix(12))…"
                throw HearpackError.bundle(
                    "\(entry.path) does not match the manifest (expected \(entry.bytes) bytes, sha256 "
                        + "\(entry.sha256.prefix(12))…, got \(came)); artefact \(artefact.id) was changed or damaged, "
                        + "install the bundle again")
            }
        }
    }

    /// A raw little-endian float32 file of golden/.
    public func floats(_ path: String) throws -> [Float] {
        let file = folder.appendingPathComponent("golden").appendingPathComponent(path)
        guard let data = try? Data(contentsOf: file), data.count % 4 == 0, !data.isEmpty else {
            throw HearpackError.bundle("golden/\(path) is missing or no float32 file; install the bundle again")
        }
        return data.withUnsafeBytes { raw in
            (0..<data.count / 4).map {
                Float(bitPattern: UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)))
            }
        }
    }
}
