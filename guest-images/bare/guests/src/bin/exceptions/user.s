# Privilege level 3 (kind 2), entered with AC set; vector 3's gate lets it through, no other does.

check user_breakpoint, 3, 0, after, 2, 0
    int3
user_breakpoint_after:
    ud2

check user_closed_gate, 13, 0x32, at, 2, 0
user_closed_gate_at:
    int 6
    ud2

check user_interrupts_off, 13, 0, at, 2, 0
user_interrupts_off_at:
    cli
    ud2

check user_port, 13, 0, at, 2, 0
    mov edx, 0x3F8
user_port_at:
    in al, dx
    ud2

check user_control_register, 13, 0, at, 2, 0
user_control_register_at:
    mov rax, cr3
    ud2

check user_register_of_the_model, 13, 0, at, 2, 0
    mov ecx, 0xC0000080
user_register_of_the_model_at:
    rdmsr
    ud2

check user_kernel_segment, 13, 0x10, at, 2, 0
    mov eax, 0x10
user_kernel_segment_at:
    mov ds, eax
    ud2

# The loader maps what is at 1 GiB, but not for level 3.
check user_read_of_the_kernel, 14, 5, at, 2, 0x40000000
    mov eax, 0x40000000
user_read_of_the_kernel_at:
    mov eax, [rax]
    ud2

check user_write_to_the_kernel, 14, 7, at, 2, 0x40000010
    mov eax, 0x40000010
user_write_to_the_kernel_at:
    mov [rax], eax
    ud2

check user_read_of_nothing, 14, 4, at, 2, 0x400000001238
    movabs rax, 0x400000001238
user_read_of_nothing_at:
    mov eax, [rax]
    ud2

# Vector 17, alignment.
check user_unaligned, 17, 0, at, 2, 0
    lea rcx, [rsp - 63]
user_unaligned_at:
    mov eax, [rcx]
    ud2

check user_aligned, 6, 0, at, 2, 0
    lea rcx, [rsp - 64]
    mov eax, [rcx]
user_aligned_at:
    ud2
