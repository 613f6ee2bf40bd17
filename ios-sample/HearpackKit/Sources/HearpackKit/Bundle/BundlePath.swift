import Foundation

/// The one gate for the paths of a bundle, as runtimes/bundle/paths.py has it: a bundle is somebody else's data, and
/// nothing of it is opened by a path that did not come through here, or read beyond its bound.
enum BundlePath {
    /// Read whole into memory.
    static let largestRead = 256 << 20
    static let largestManifest = 16 << 20
    /// Handed to Core ML or LiteRT by its path.
    static let largestFile = 8 << 30

    private static let longest = 1_024

    /// Whether a path relative to a bundle's folder stays inside it: names with "/" between them.
    static func isInside(_ path: String) -> Bool {
        // Bytes, not characters: a "/" with an accent is one character to Swift, and still a separator to the system.
        let parts = path.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map(Array.init)
        let harmless = path.unicodeScalars.allSatisfy {
            $0.value >= 0x20 && !(0x7f...0x9f).contains($0.value) && $0 != "\\" && $0 != ":"
        }
        return path.utf16.count <= longest && harmless
            && parts.allSatisfy { !$0.isEmpty && $0 != Array(".".utf8) && $0 != Array("..".utf8) }
    }

    /// Whether files, folders and tensors may be called so: one part of a path, the same on every system.
    static func isName(_ name: String) -> Bool {
        let bytes = Array(name.utf8)
        func inner(_ byte: UInt8) -> Bool { first(byte) || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-") }
        func first(_ byte: UInt8) -> Bool {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
                return true
            default: return false
            }
        }
        return (1...128).contains(bytes.count) && first(bytes[0]) && bytes.allSatisfy(inner)
    }

    /// The place of a bundle's file, proven to be a plain file in the bundle with no link on the way.
    ///
    /// - Throws: `bundle`: the path leaves the bundle or goes through a link; no plain file there, or too large a one.
    static func file(_ path: String, in folder: URL, most: Int = largestFile) throws -> URL {
        let name = folder.lastPathComponent
        guard isInside(path) else {
            throw HearpackError.bundle("\(name): path \(path) does not stay inside the bundle; export it again")
        }
        var place = folder
        let parts = path.split(separator: "/").map(String.init)
        for (index, part) in parts.enumerated() {
            place.appendPathComponent(part)
            var info = stat()
            guard lstat(place.path, &info) == 0 else {
                throw HearpackError.bundle("\(name)/\(path): missing; the bundle is incomplete, install it again")
            }
            let kind = info.st_mode & S_IFMT
            guard kind != S_IFLNK else {
                throw HearpackError.bundle(
                    "\(name): \(path) goes through a link, a bundle holds plain files; install it again")
            }
            guard kind == (index == parts.count - 1 ? S_IFREG : S_IFDIR) else {
                throw HearpackError.bundle("\(name): \(path) is no plain file; install the bundle again")
            }
            guard kind != S_IFREG || info.st_size <= most else {
                throw HearpackError.bundle("\(name): \(path) has \(info.st_size) bytes, expected at most \(most)")
            }
        }
        return place
    }

    /// The bytes of such a file; throws as `file`, and where it cannot be read.
    static func read(_ path: String, in folder: URL, most: Int = largestRead) throws -> Data {
        let place = try file(path, in: folder, most: min(most, largestRead))
        guard let data = try? Data(contentsOf: place) else {
            throw HearpackError.bundle("\(folder.lastPathComponent)/\(path) cannot be read; install the bundle again")
        }
        return data
    }
}

/// Any key of a JSON object.
struct AnyKey: CodingKey {
    let stringValue: String
    let intValue: Int? = nil
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
}

/// Refuses by name what is not known: of the parts of a manifest that people edit, where it is a slip of theirs.
func refuseUnknownKeys(_ decoder: any Decoder, _ known: [String]) throws {
    let keys = try decoder.container(keyedBy: AnyKey.self).allKeys.map(\.stringValue)
    guard let unknown = keys.filter({ !known.contains($0) }).min() else { return }
    let place = (decoder.codingPath.map(\.stringValue) + [unknown]).joined(separator: ".")
    throw HearpackError.bundle("\(place): unknown key; known: \(known.joined(separator: ", "))")
}
