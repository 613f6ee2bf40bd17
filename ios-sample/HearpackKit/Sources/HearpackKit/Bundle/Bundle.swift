import Foundation

/// A bundle's folder and its validated manifest. The name keeps it apart from Foundation's `Bundle`.
public struct ModelBundle: Sendable {
    public let folder: URL
    public let manifest: Manifest

    /// - Throws: `bundle`: no folder, no manifest, or an invalid one.
    public init(opening folder: URL) throws {
        guard FileManager.default.fileExists(atPath: folder.appendingPathComponent("manifest.json").path) else {
            throw HearpackError.bundle(
                "\(folder.lastPathComponent): expected a bundle (a folder with manifest.json), found none; "
                    + "run: hearpack install BUNDLE --ios DIR")
        }
        let data = try BundlePath.read("manifest.json", in: folder, most: BundlePath.largestManifest)
        self.folder = folder
        manifest = try Manifest.parse(data, origin: "\(folder.lastPathComponent)/manifest.json")
    }

    /// Every bundle in a folder, by name. A folder without one gives none.
    public static func all(in folder: URL) -> [URL] {
        let found = (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)) ?? []
        return found.filter { $0.pathExtension == "hearpack" }.sorted { $0.lastPathComponent < $1.lastPathComponent }
    }

    /// The bytes of a file of the manifest's `files`, proven to be those that were exported.
    ///
    /// - Throws: `bundle`: the manifest does not list it, the gate refuses it, or it was changed.
    public func read(_ path: String) throws -> Data {
        guard let entry = (manifest.files ?? []).first(where: { $0.path == path }) else {
            throw HearpackError.bundle(
                "\(folder.lastPathComponent): \(path) is not among the manifest's `files`, so nothing vouches for it; "
                    + "export it again")
        }
        let data = try BundlePath.read(entry.path, in: folder)
        try compare(entry, data, entry.path)
        return data
    }

    private func compare(_ entry: Manifest.File, _ data: Data, _ what: String) throws {
        let digest = data.count == entry.bytes ? FileDigest.hex(data) : ""
        guard digest == entry.sha256 else {
            let came = digest.isEmpty ? "\(data.count) bytes" : "sha256 \(digest.prefix(12))…"
            throw HearpackError.bundle(
                "\(entry.path) does not match the manifest (expected \(entry.bytes) bytes, sha256 "
                    + "\(entry.sha256.prefix(12))…, got \(came)); \(what) was changed or damaged, install the bundle again")
        }
    }

    /// One label a line of labels.txt; empty for an enhancer.
    ///
    /// - Throws: `bundle`: labels.txt is missing, was changed, or has another count than the scores.
    public func labels() throws -> [String] {
        guard manifest.task == .classifier else { return [] }
        guard let text = String(data: try read("labels.txt"), encoding: .utf8) else {
            throw HearpackError.bundle("\(folder.lastPathComponent)/labels.txt is no UTF-8 text; install the bundle again")
        }
        var labels = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if labels.last == "" { labels.removeLast() }
        let expected = manifest.outputs[0].shape.last ?? 0
        guard labels.count == expected else {
            throw HearpackError.bundle(
                "\(folder.lastPathComponent)/labels.txt: expected \(expected) labels, one per line, got \(labels.count)")
        }
        return labels
    }

    /// Compare every file of one artefact with its size and sha256.
    ///
    /// - Throws: `bundle`: a file is missing, is not the one that was exported, or lies in the package and in no list.
    public func checkFiles(_ artefact: Manifest.Artefact) throws {
        for entry in artefact.files {
            let url = try BundlePath.file(entry.path, in: folder)
            guard let data = try? Data(contentsOf: url, options: .mappedIfSafe) else {
                throw HearpackError.bundle("\(entry.path) cannot be read; install the bundle again")
            }
            try compare(entry, data, "artefact \(artefact.id)")
        }
        try checkNothingElse(artefact)
    }

    private func checkNothingElse(_ artefact: Manifest.Artefact) throws {
        guard artefact.path != artefact.files[0].path else { return }  // a file, not a folder
        let known = Set(artefact.files.map(\.path))
        let package = folder.appendingPathComponent(artefact.path)
        for inner in try FileManager.default.subpathsOfDirectory(atPath: package.path).sorted() {
            let path = "\(artefact.path)/\(inner)"
            let kind = try FileManager.default.attributesOfItem(atPath: package.appendingPathComponent(inner).path)[.type]
            guard kind as? FileAttributeType == .typeDirectory || known.contains(path) else {
                throw HearpackError.bundle(
                    "\(path) is in no list of the manifest, so nothing vouches for it; install the bundle again")
            }
        }
    }

    /// What tells files that `checkFiles` has passed from any others without reading them: path, size, inode and time of each,
    /// and the digests they were compared with. Remember it to check once; nil if a file is missing or one too many is there.
    public func stamp(_ artefact: Manifest.Artefact) -> String? {
        guard (try? checkNothingElse(artefact)) != nil else { return nil }
        var lines: [String] = []
        for entry in artefact.files {
            guard let url = try? BundlePath.file(entry.path, in: folder),
                let facts = try? FileManager.default.attributesOfItem(atPath: url.path),
                let size = facts[.size] as? NSNumber, let inode = facts[.systemFileNumber] as? NSNumber,
                let changed = facts[.modificationDate] as? Date
            else { return nil }
            lines.append("\(url.path) \(size) \(inode) \(changed.timeIntervalSince1970) \(entry.sha256)")
        }
        return FileDigest.hex(Data(lines.joined(separator: "\n").utf8))
    }

    /// A raw little-endian float32 file of golden/.
    public func floats(_ name: String) throws -> [Float] {
        guard BundlePath.isName(name), name.hasSuffix(".f32") else {
            throw HearpackError.bundle("golden.json: expected the name of a .f32 file of golden/, got \(name)")
        }
        let data = try read("golden/\(name)")
        guard data.count % 4 == 0, !data.isEmpty else {
            throw HearpackError.bundle("golden/\(name) is no float32 file; export the bundle again")
        }
        return data.withUnsafeBytes { raw in
            (0..<data.count / 4).map {
                Float(bitPattern: UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)))
            }
        }
    }
}
